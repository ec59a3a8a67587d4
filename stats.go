package pghub

import (
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

	Published      uint64 // events that Notify and NotifyPayload have committed
	PublishBatches uint64 // statements that took
	PublishErrors  uint64 // events whose statement failed, or whose outcome is unknown
}

// ConsumerStats are the figures of a [Consumer].
type ConsumerStats struct {
	Delivered uint64 // events and advisories that the handler has returned from
	Queued    int    // events waiting
	Dropped   uint64 // events dropped because the queue was full
	Panics    uint64 // of the handler and of Resync
}

func (s *ConsumerStats) add(other ConsumerStats) {
	s.Delivered += other.Delivered
	s.Queued += other.Queued
	s.Dropped += other.Dropped
	s.Panics += other.Panics
}

// Stats returns the hub's figures; it looks at every consumer.
func (h *Hub) Stats() Stats {
	st := Stats{State: h.State()}
	h.supervisor.stats(&st)
	h.router.stats(&st)
	if p := h.publisher; p != nil {
		st.Published, st.PublishBatches, st.PublishErrors = p.events.Load(), p.batches.Load(), p.failures.Load()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st.addConsumer(h.retired)
	return st
}

func (st *Stats) addConsumer(c ConsumerStats) {
	st.Delivered += c.Delivered
	st.Queued += c.Queued
	st.Dropped += c.Dropped
	st.Panics += c.Panics
}

func (s *supervisor) stats(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Since, st.LastError = s.since, s.lastErr
	st.Attempts, st.Reconnects = s.attempts.Load(), s.reconnects.Load()
	if s.session != nil {
		st.Server, st.PID = s.session.server, s.session.pid
	}
}

func (r *router) stats(st *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Received, st.Unwanted, st.Undecodable = r.received, r.unwanted, r.undecodable
	st.Consumers = len(r.consumers)
	for c := range r.consumers {
		st.addConsumer(c.Stats())
	}
	for _, ch := range r.channels {
		if ch.wanted() {
			st.Topics++
		}
		if ch.listening {
			st.Listening++
		}
	}
}
