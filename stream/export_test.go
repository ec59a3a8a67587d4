package stream

// Waiting is how many calls of Publish wait for a statement.
func Waiting(s *Stream) int {
	s.pub.mu.Lock()
	defer s.pub.mu.Unlock()
	return len(s.pub.waiting)
}

// IsStopping says whether Stop or Close was called.
func IsStopping(d *Durable) bool { return d.isStopping() }

// QuietTime is how long no event comes before the sequencer tries to sleep, and LookPause for how long it rests between two looks. They are to be
// changed before a stream is opened.
var (
	QuietTime = &quietTime
	LookPause = &lookPause
)

// NextChange is closed when s hears that a consumer is free, or has events to try again.
func NextChange(s *Stream, consumer string) <-chan struct{} { return s.bus.nextChange(consumer) }
