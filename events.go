package pghub

import (
	"context"
	"iter"
)

// Events returns the events of topics as an iterator. Each loop over it is a consumer of its own with the defaults of
// ConsumerConfig: subscribed when the loop begins, closed when it ends. Events queue up while the loop's body runs, which
// is on the caller's goroutine. Supervisory events are among them.
//
// The loop ends with the consumer: with a close advisory when ctx ends, a stop advisory when the hub stops. If the topics
// cannot be subscribed to, the only event is a close advisory with the reason in Advisory.Err. Before Start the loop waits
// for it. A loop that does not come back for its next event makes Stop wait as a blocked handler does.
func (h *Hub) Events(ctx context.Context, topics ...string) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		pull := make(chan struct{}, 1)
		c, err := h.consumer(ctx, nil, &ConsumerConfig{Topics: topics}, pull)
		if err != nil {
			yield(newAdvisory(Advisory{Action: ActionClose, Final: true, Err: err}))
			return
		}
		c.iterate(ctx, yield)
	}
}

// iterate delivers a consumer's events to a loop's body until that is left, or no event follows.
func (c *Consumer) iterate(ctx context.Context, yield func(*Event) bool) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // never fails
	defer stop()
	final := false
	defer func() {
		if !final { // the loop was left, or its body panicked
			_ = c.Close()
			c.advised(&Advisory{Final: true})
		}
	}()
	for !final {
		hand := c.queue.take()
		if len(hand) == 0 {
			<-c.pull
			continue
		}
		for place := c.queue.delivered.Load(); len(hand) > 0; place++ {
			if c.queue.recall.Load() {
				if hand = c.queue.sift(hand); len(hand) == 0 {
					break
				}
			}
			ev := hand[0]
			hand = hand[1:]
			more := yield(ev)
			c.queue.delivered.Store(place + 1)
			if !more {
				return
			}
			if ev.Advisory != nil && ev.Advisory.Final {
				c.advised(ev.Advisory)
				final = true
			}
		}
	}
}
