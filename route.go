package pghub

import (
	"bytes"
	"fmt"

	"github.com/pghub/pghub/internal/pgwire"
)

// route brings a burst of notifications to the queues of those who want them, in order, with one lock a consumer. It is
// called by one goroutine at a time.
func (r *router) route(burst []pgwire.Notification) {
	if len(burst) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase != phaseListening {
		return // within an announced gap
	}
	r.received += uint64(len(burst))
	for len(burst) > 0 {
		n := 1
		for n < len(burst) && bytes.Equal(burst[n].Channel, burst[0].Channel) {
			n++
		}
		if ch := r.channels[string(burst[0].Channel)]; ch != nil && len(ch.groups) > 0 {
			ch.received += uint64(n)
			for _, g := range ch.groups {
				r.stageLocked(g, r.decodeLocked(ch.name, g.codec, burst[:n]))
			}
		} else {
			r.unwanted += uint64(n)
		}
		burst = burst[n:]
	}
	r.flushLocked()
}

// decodeLocked makes events of notifications on one topic. What cannot be decoded is reported and left out.
func (r *router) decodeLocked(topic string, codec Codec, burst []pgwire.Notification) run {
	events := newEvents(topic, burst)
	decoded := events[:0]
	for _, ev := range events {
		if err := decodeSafely(codec, ev); err != nil {
			r.undecodable++
			r.report.trouble("undecodable", &DecodeError{Topic: topic, Payload: ev.Payload, Err: err})
			continue
		}
		decoded = append(decoded, ev)
	}
	return decoded
}

// decodeSafely takes a codec's panic as an error.
func decodeSafely(codec Codec, ev *Event) (err error) {
	if kv, ok := codec.(KeyValueCodec); ok {
		return kv.Decode(ev)
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: codec: %v", ErrPanic, v)
		}
	}()
	return codec.Decode(ev)
}

// stageLocked keeps a run for a group's consumers until the whole burst is decoded.
func (r *router) stageLocked(g *group, events run) {
	if len(events) == 0 {
		return
	}
	for _, sub := range g.subs {
		c := sub.c
		if len(c.staged) == 0 {
			r.staged = append(r.staged, c)
			if last := len(r.spare) - 1; last >= 0 {
				c.staged, r.spare = r.spare[last], r.spare[:last]
			}
		}
		c.staged = append(c.staged, events)
	}
}

// flushLocked pushes what is staged and schedules those whom it wakes.
func (r *router) flushLocked() {
	const (
		spares    = 1 << 14 // buffers to keep
		spareRoom = 16      // runs in one of them
	)
	for _, c := range r.staged {
		wake, overflowed := c.queue.put(c.staged...)
		if wake {
			r.ready = append(r.ready, c)
		}
		if overflowed {
			r.overflowLocked(c)
		}
		if clear(c.staged); cap(c.staged) <= spareRoom && len(r.spare) < spares {
			r.spare = append(r.spare, c.staged[:0])
		}
		c.staged = nil
	}
	r.delivery.add(r.ready...)
	clear(r.staged)
	clear(r.ready)
	r.staged, r.ready = r.staged[:0], r.ready[:0]
}

// overflowLocked reports a full queue; where that closes the consumer, the queue has sealed itself.
func (r *router) overflowLocked(c *Consumer) {
	const shown = 3
	var topics []string
	for _, sub := range c.subs[:min(len(c.subs), shown)] {
		topics = append(topics, sub.ch.name)
	}
	err := fmt.Errorf("pghub: %w: the queue of a consumer of %d topics (%q …) holds %d events and is full", ErrSlowConsumer, len(c.subs), topics, c.queue.limit)
	if c.queue.overflow == CloseConsumer {
		err = fmt.Errorf("%w: the consumer is closed", err)
		c.cancel()
		r.removeAllLocked(c)
	}
	r.report.trouble("overflow", err)
}
