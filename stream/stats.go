package stream

import (
	"maps"
	"slices"
)

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

	accounts map[string]DurableStats // by name: sums over those that have ended; with every name that a sum is made for
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
	st.accounts = maps.Clone(s.accounts)
	s.mu.Unlock()
	for _, d := range durables {
		st.Durables = append(st.Durables, d.Stats())
	}
	return st
}

// DurablesByName returns sums of the figures of durable consumers of the same name, without their positions. Those that have ended are
// among them, so that counters never fall: made for a monitoring system. After 256 different names, consumers with another one are
// counted together, under no name.
func (st Stats) DurablesByName() map[string]DurableStats {
	sums := make(map[string]DurableStats, len(st.accounts))
	maps.Copy(sums, st.accounts)
	for _, one := range st.Durables {
		countIn(sums, accountOf(st.accounts, one.Name), one)
	}
	return sums
}

// maxAccounts bounds the room for names, and the series of a monitoring system.
const maxAccounts = 256

// accountOf says under which name a consumer's figures are added up. It is the same whenever it is asked for, so that one that ends leaves
// every sum as it was.
func accountOf(accounts map[string]DurableStats, name string) string {
	if _, known := accounts[name]; !known && len(accounts) >= maxAccounts {
		return ""
	}
	return name
}

// countIn adds a consumer's figures to the sums of an account.
func countIn(sums map[string]DurableStats, account string, one DurableStats) {
	sum := sums[account]
	sum.Name = account
	sum.Working = sum.Working || one.Working
	sum.Delivered += one.Delivered
	sum.Failed += one.Failed
	sum.Parked += one.Parked
	sum.Resyncs += one.Resyncs
	sum.InHand += one.InHand
	sums[account] = sum
}
