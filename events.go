package pghub

import (
	"context"
	"fmt"
	"iter"
)

// loop is what a consumer has instead of workers, if it is a loop over Events.
type loop struct {
	wake      chan struct{} // there may be something to take
	goroutine uint64        // that runs the body
}

// Events returns the events of topics as an iterator. Each loop over it is a consumer of its own with the defaults of
// ConsumerConfig: subscribed when the loop begins, closed when it ends. Events queue up while the loop's body runs, which
// is on the caller's goroutine. Supervisory events are among them.
//
// The loop ends with the consumer: with a close advisory when ctx ends, a stop advisory when the hub stops. If the topics
// cannot be subscribed to, the only event is a close advisory with the reason in Advisory.Err; without topics, that is
// ErrTopic. Before Start the loop waits for it. A loop that does not come back for its next event makes Stop wait as a
// blocked handler does, unless it is the loop's body that calls Stop.
func (h *Hub) Events(ctx context.Context, topics ...string) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		c, err := h.loop(ctx, topics)
		if err != nil {
			yield(newAdvisory(Advisory{Action: ActionClose, Final: true, Err: err}))
			return
		}
		c.iterate(ctx, yield)
	}
}

func (h *Hub) loop(ctx context.Context, topics []string) (*Consumer, error) {
	if len(topics) == 0 {
		return nil, fmt.Errorf("pghub: events: %w: none is given", ErrTopic)
	}
	return h.consumer(ctx, nil, &ConsumerConfig{Topics: topics}, &loop{wake: make(chan struct{}, 1), goroutine: goroutineID()}, nil)
}

// iterate delivers a consumer's events to a loop's body until that is left, or no event follows.
func (c *Consumer) iterate(ctx context.Context, yield func(*Event) bool) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // never fails
	defer stop()
	final := false
	defer func() {
		if !final { // the loop was left, or its body panicked
			c.leaveLoop()
		}
	}()
	for !final {
		ev := c.queue.next()
		if ev == nil {
			<-c.loop.wake
			continue
		}
		c.note(ev)
		more := yield(ev)
		c.queue.done()
		if !more {
			return
		}
		if ev.Advisory != nil && ev.Advisory.Final {
			c.hub.retire(c)
			final = true
		}
	}
}

// leaveLoop ends a loop that takes no further event.
func (c *Consumer) leaveLoop() {
	_ = c.Close() // never fails
	c.queue.abandon()
	c.hub.retire(c)
}

// wakeUp tells the loop that something waits.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
