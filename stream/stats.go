package stream

import "slices"

// Stats are the figures of a [Stream] in this process since Open, taken at a moment of their own each. What the database knows
// of all processes is in [Status].
type Stats struct {
	Sequencer bool   // this process makes the ticks
	PID       uint32 // of the server process of the stream's own connection; 0 while there is none
	Lost      uint64 // how often that connection was lost, or could not be made
	Ticks     uint64 // made by this process
	Sleeps    uint64 // of its sequencer, until a writer rang

	Published      uint64 // events that Publish has committed
	PublishBatches uint64 // statements that took
	PublishErrors  uint64 // events whose statement failed, or whose outcome is unknown

	Halted   uint64         // durable consumers that have ended in front of an event that is poison
	Durables []DurableStats // of the durable consumers that have not ended, in the order in which they were made
}

// Stats returns the stream's figures.
func (s *Stream) Stats() Stats {
	st := Stats{
		Sequencer: s.link.leading.Load(), PID: s.link.pid.Load(), Lost: s.link.lost.Load(), Ticks: s.link.ticks.Load(), Sleeps: s.link.sleeps.Load(),
		Halted:    s.halted.Load(),
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

// DurablesByName adds up the figures of durable consumers of the same name, without their positions.
func (st Stats) DurablesByName() map[string]DurableStats {
	sums := make(map[string]DurableStats, len(st.Durables))
	for _, one := range st.Durables {
		sum := sums[one.Name]
		sum.Name = one.Name
		sum.Working = sum.Working || one.Working
		sum.Delivered += one.Delivered
		sum.Failed += one.Failed
		sum.Parked += one.Parked
		sum.Resyncs += one.Resyncs
		sum.InHand += one.InHand
		sums[one.Name] = sum
	}
	return sums
}
