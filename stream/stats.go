package stream

import "slices"

// Stats are the figures of a [Stream] in this process since Open, taken at a moment of their own each. What the database knows
// of all processes is in the views pghub.stream and pghub.stream_consumers.
type Stats struct {
	Sequencer bool   // this process makes the ticks
	PID       uint32 // of the server process of the stream's own connection; 0 while there is none
	Lost      uint64 // how often that connection was lost, or could not be made
	Ticks     uint64 // made by this process
	Sleeps    uint64 // of its sequencer, until a writer rang

	Published      uint64 // events that Publish has committed
	PublishBatches uint64 // statements that took
	PublishErrors  uint64 // events whose statement failed, or whose outcome is unknown

	Durables []DurableStats // of the durable consumers that have not ended, in the order in which they were made
}

// Stats returns the stream's figures.
func (s *Stream) Stats() Stats {
	st := Stats{
		Sequencer: s.link.leading.Load(), PID: s.link.pid.Load(), Lost: s.link.lost.Load(), Ticks: s.link.ticks.Load(), Sleeps: s.link.sleeps.Load(),
		Published: s.pub.events.Load(), PublishBatches: s.pub.batches.Load(), PublishErrors: s.pub.failures.Load(),
	}
	s.mu.Lock()
	durables := slices.Clone(s.durables)
	s.mu.Unlock()
	for _, d := range durables {
		st.Durables = append(st.Durables, d.Stats())
	}
	return st
}
