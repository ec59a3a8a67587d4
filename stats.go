package pghub

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// Stats are the figures of a [Hub] since New, taken at a moment of their own each.
type Stats struct {
	State      State
	Since      time.Time // when it came to that state; not for stopping and stopped
	Server     string    // address, while listening
	PID        uint32    // of the server process of the listener connection, while listening
	Attempts   uint64    // to connect the listener
	Reconnects uint64    // sessions that came to listen after the first
	LastError  error     // why the last session, or attempt to connect, ended

	Consumers int // that have not had their last event
	Topics    int // that somebody is subscribed to
	Listening int // of these, acknowledged by the server

	Received    uint64 // notifications on topics of consumers, or of ones just unsubscribed
	Unwanted    uint64 // of these, for nobody any more
	Undecodable uint64 // refused by a codec: see *DecodeError
	Delivered   uint64 // events and advisories that handlers have returned from
	Queued      int    // events waiting for handlers
	Dropped     uint64 // events dropped by full queues: announced by lag advisories
	Panics      uint64 // of handlers and of Resync

	// Oldest is when the oldest event arrived that a handler has not returned from. Zero: there is none.
	Oldest       time.Time `json:",omitzero"`
	Gaps         uint64    // that consumers were told of: see ConsumerStats
	Lags         uint64    // of these, by full queues
	Resyncs      uint64    // calls of Resync that succeeded
	ResyncErrors uint64    // and that failed
	Batches      uint64    // calls of handlers of BatchConsumer with events

	Published      uint64 // events that Notify and NotifyPayload have committed
	PublishBatches uint64 // statements that took
	PublishErrors  uint64 // events whose statement failed, or whose outcome is unknown
}

// MarshalJSON gives the state and the error as text.
func (st Stats) MarshalJSON() ([]byte, error) {
	type plain Stats // without this method
	text := struct {
		plain
		LastError string `json:",omitempty"`
	}{plain: plain(st)}
	if st.LastError != nil {
		text.LastError = st.LastError.Error()
	}
	return json.Marshal(text)
}

// ConsumerStats are the figures of a [Consumer].
type ConsumerStats struct {
	Name      string   // ConsumerConfig.Name
	Topics    []string // that it is subscribed to, sorted
	Delivered uint64   // events and advisories that the handler has returned from
	Queued    int      // events waiting
	Dropped   uint64   // events dropped because the queue was full
	Panics    uint64   // of the handler and of Resync

	// Oldest is when the oldest event arrived that the handler has not returned from: one that waits, or that it is busy with.
	// Zero: there is none.
	Oldest time.Time `json:",omitzero"`

	// Gaps counts how often events may have been missed: reconnect, lag, a subscribe that comes late, and an event by which a
	// publisher announces a gap, as the handler is given them. Lags counts those among them that a full queue caused.
	Gaps, Lags uint64

	// Resyncs counts the calls of Resync that succeeded, at gaps and without, and ResyncErrors those that failed.
	Resyncs, ResyncErrors uint64

	Batches uint64 // calls of the handler of a BatchConsumer with events
}

// Stats returns the hub's figures. It looks at every consumer. Counters never fall from one call to the next.
func (h *Hub) Stats() Stats {
	st := Stats{State: h.State()}
	h.supervisor.stats(&st)
	h.router.stats(&st)
	if p := h.publisher; p != nil {
		st.Published, st.PublishBatches, st.PublishErrors = p.events.Load(), p.batches.Load(), p.failures.Load()
	}
	return st
}

// ConsumerStats returns the figures of every consumer that has not had its last event, by name.
func (h *Hub) ConsumerStats() []ConsumerStats { return h.router.consumerStats() }

// StatsByName returns sums of the figures of consumers that have the same name, by name, without topics. Those that are gone
// are among them, so that counters never fall: made for a monitoring system. After 256 different names, consumers with another
// one are counted among those without a name.
func (h *Hub) StatsByName() []ConsumerStats { return h.router.statsByName() }

// Stats returns the consumer's figures.
func (c *Consumer) Stats() ConsumerStats {
	st := c.figures()
	st.Name, st.Topics = c.name, c.Topics()
	return st
}

// figures are the stats without what the router knows.
func (c *Consumer) figures() ConsumerStats {
	_, _, delivered, waiting := c.queue.current()
	st := ConsumerStats{Delivered: delivered, Queued: waiting, Dropped: c.queue.droppedSoFar()}
	if t := c.counts.Load(); t != nil {
		st.Panics, st.Gaps, st.Lags, st.Batches = t.panics.Load(), t.gaps.Load(), t.lags.Load(), t.batches.Load()
		st.Resyncs, st.ResyncErrors = t.resyncs.Load(), t.resyncErrors.Load()
	}
	if arrived, waits := c.queue.oldest(); waits {
		st.Oldest = c.hub.router.began.Add(arrived)
	}
	return st
}

func (s *supervisor) stats(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Since, st.LastError = s.since, s.lastErr
	st.Attempts, st.Reconnects = s.attempts.Load(), s.reconnects.Load()
	if s.session != nil && s.state == StateListening {
		peer := s.session.Peer()
		st.Server, st.PID = peer.Server, peer.PID
	}
}

func (r *router) stats(st *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Received, st.Unwanted, st.Undecodable = r.received, r.unwanted, r.undecodable
	st.Consumers = len(r.consumers)
	var sum ConsumerStats
	for _, gone := range r.accounts {
		sum.add(*gone)
	}
	for c := range r.consumers {
		one := c.figures()
		sum.add(one)
		sum.addWaiting(one)
	}
	st.Delivered, st.Dropped, st.Panics, st.Queued, st.Oldest = sum.Delivered, sum.Dropped, sum.Panics, sum.Queued, sum.Oldest
	st.Gaps, st.Lags, st.Resyncs, st.ResyncErrors, st.Batches = sum.Gaps, sum.Lags, sum.Resyncs, sum.ResyncErrors, sum.Batches
	for _, ch := range r.channels {
		if ch.wanted() {
			st.Topics++
		}
		if ch.wanted() && (ch.state == channelListening || ch.state == channelLeaving) {
			st.Listening++
		}
	}
}

func (r *router) consumerStats() []ConsumerStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]ConsumerStats, 0, len(r.consumers))
	for c := range r.consumers {
		st := c.figures()
		st.Name, st.Topics = c.name, c.topicsLocked()
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b ConsumerStats) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Topics, b.Topics))
	})
	return all
}
