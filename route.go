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

func (r *router) decodeLocked(topic string, codec Codec, burst []pgwire.Notification) []*Event {
	run := r.run[:0]
	for i := range burst {
		ev := newEvent(topic, &burst[i])
		if err := decodeSafely(codec, ev); err != nil {
			r.undecodable++
			r.report.trouble("undecodable", &DecodeError{Topic: topic, Payload: ev.Payload, Err: err})
			continue
		}
		run = append(run, ev)
	}
	r.run = run
	return run
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

// stageLocked keeps events for a group's consumers until the whole burst is decoded.
func (r *router) stageLocked(g *group, run []*Event) {
	if len(run) == 0 {
		return
	}
	for _, sub := range g.subs {
		c := sub.c
		if len(c.staged) == 0 {
			r.staged = append(r.staged, c)
			if last := len(r.spare) - 1; last >= 0 {
				c.staged, r.spare = r.spare[last], r.spare[:last]
				r.spareRoom -= cap(c.staged)
			}
		}
		c.staged = append(c.staged, run...)
	}
}

// flushLocked pushes what is staged and schedules those whom it wakes.
func (r *router) flushLocked() {
	const spareRoomLimit = 1 << 17 // pointers
	for _, c := range r.staged {
		wake, overflowed := c.queue.put(c.staged)
		if wake {
			r.ready = append(r.ready, c)
		}
		if overflowed {
			r.overflowLocked(c)
		}
		clear(c.staged)
		if r.spareRoom+cap(c.staged) <= spareRoomLimit {
			r.spareRoom += cap(c.staged)
			r.spare = append(r.spare, c.staged[:0])
		}
		c.staged = nil
	}
	r.delivery.add(r.ready...)
	clear(r.run[:cap(r.run)])
	clear(r.staged)
	clear(r.ready)
	r.staged, r.ready = r.staged[:0], r.ready[:0]
}

// overflowLocked reports a full queue; where that closes the consumer, the queue has sealed itself.
func (r *router) overflowLocked(c *Consumer) {
	what := "events are dropped"
	if c.queue.overflow == CloseConsumer {
		what = "the consumer is closed"
		c.cancel()
		r.removeAllLocked(c)
	}
	r.report.trouble("overflow", fmt.Errorf("pghub: %w: its queue of %d events is full, %s", ErrSlowConsumer, c.queue.limit, what))
}
