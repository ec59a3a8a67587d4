package pghub

import (
	"bytes"
	"fmt"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// Burst brings messages to the queues of those who want them, in order, with one lock a consumer. One goroutine calls it
// at a time. more: another call follows at once, and may wake the consumers. It may pause, see brake.
func (r *router) Burst(burst []source.Message, more bool) {
	r.route(burst, more, false)
	r.brake.pause()
}

func (r *router) route(burst []source.Message, more, fed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	routed := false
	defer func() {
		if !routed { // a codec has ended the goroutine: what came before is delivered, ahead of the loss
			r.flushLocked()
			r.wakeLocked()
		}
	}()
	if r.phase == phaseListening || fed && r.phase == phaseAway { // else within an announced gap
		r.putBurstLocked(burst)
	}
	if !more || r.brake.pressed() {
		r.wakeLocked()
	}
	routed = true
}

func (r *router) putBurstLocked(burst []source.Message) {
	r.received += uint64(len(burst))
	r.arrived = time.Since(r.began)
	whole := len(burst)
	for len(burst) > 0 {
		n := 1
		for n < len(burst) && bytes.Equal(burst[n].Topic, burst[0].Topic) {
			n++
		}
		if ch := r.channels[string(burst[0].Topic)]; ch != nil && len(ch.groups) > 0 {
			ch.received += uint64(n)
			alone := n == whole && len(ch.groups) == 1
			for _, g := range ch.groups {
				if events := r.decodeLocked(ch.name, g.codec, burst[:n]); alone {
					r.putToAllLocked(g, events)
				} else {
					r.stageLocked(g, events)
				}
			}
		} else {
			r.unwanted += uint64(n)
		}
		burst = burst[n:]
	}
	r.flushLocked()
}

// decodeLocked makes events of notifications on one topic. What cannot be decoded is reported and left out.
func (r *router) decodeLocked(topic string, codec Codec, burst []source.Message) run {
	events := newEvents(topic, burst)
	ours, isOurs := codec.(KeyValueCodec) // which never panics
	kept := 0
	for i, ev := range events {
		var err error
		gap := announcesGap(ev.Payload)
		if isOurs {
			err = ours.Decode(ev)
		} else {
			err = decodeSafely(codec, ev)
		}
		if err != nil && gap { // no codec may keep a gap from a consumer
			err = KeyValueCodec{}.Decode(ev)
		}
		if err != nil {
			r.undecodable++
			r.report.trouble("undecodable", &DecodeError{Topic: topic, Payload: ev.Payload, Err: err})
			continue
		}
		ev.gap = gap
		if kept < i {
			events[kept] = ev
		}
		kept++
	}
	return events[:kept]
}

// decodeSafely takes a codec's panic as an error. A codec that calls runtime.Goexit ends the session: see supervisor.
func decodeSafely(codec Codec, ev *Event) (err error) {
	returned := false
	defer func() {
		if v := recover(); !returned && v != nil {
			err = thrown("codec", v)
		}
	}()
	err = codec.Decode(ev)
	returned = true
	return err
}

// stageLocked keeps a run for a group's consumers until the whole burst is decoded.
func (r *router) stageLocked(g *group, events run) {
	if len(events) == 0 {
		return
	}
	for _, m := range g.members {
		c := m.c
		if len(c.staged) == 0 {
			r.staged = append(r.staged, c)
			if last := len(r.spare) - 1; last >= 0 {
				c.staged, r.spare = r.spare[last], r.spare[:last]
			}
		}
		c.staged = append(c.staged, events)
	}
}

// putToAllLocked brings a run to a group's consumers at once, when it is all that the burst has for them.
func (r *router) putToAllLocked(g *group, events run) {
	if len(events) == 0 {
		return
	}
	for i := len(g.members) - 1; i >= 0; i-- { // backwards: an overflow may take the consumer out of them
		r.putLocked(g.members[i].c, events)
	}
}

// flushLocked puts what is staged.
func (r *router) flushLocked() {
	const (
		spares    = 1 << 14 // buffers to keep
		spareRoom = 16      // runs in one of them
	)
	for _, c := range r.staged {
		r.putLocked(c, c.staged...)
		if clear(c.staged); cap(c.staged) <= spareRoom && len(r.spare) < spares {
			r.spare = append(r.spare, c.staged[:0])
		}
		c.staged = nil
	}
	clear(r.staged)
	r.staged = r.staged[:0]
}

func (r *router) putLocked(c *Consumer, runs ...run) {
	const together = 64 // consumers: while these are delivered to, the others are brought theirs
	wake, overflowed := c.queue.put(r.arrived, runs...)
	if wake || c.linger.hurries(c) {
		if r.ready = append(r.ready, c); len(r.ready) == together {
			r.wakeLocked()
		}
	}
	if overflowed {
		r.overflowLocked(c)
	}
}

func (r *router) wakeLocked() {
	r.delivery.add(r.ready...)
	clear(r.ready)
	r.ready = r.ready[:0]
}

// overflowLocked reports a full queue; where that closes the consumer, the queue has sealed itself.
func (r *router) overflowLocked(c *Consumer) {
	err := fmt.Errorf("pghub: %w: the queue of %s holds %d events and is full", ErrSlowConsumer, c.describeLocked(), c.queue.limit)
	if c.queue.overflow == CloseConsumer {
		err = fmt.Errorf("%w: the consumer is closed", err)
		c.cancel()
		r.removeAllLocked(c)
	}
	r.report.trouble("overflow", err)
}
