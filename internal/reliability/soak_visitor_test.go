package reliability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pghub/pghub"
)

// visit makes one consumer after another that stays for a moment and leaves by Drain or Close, until ctx ends.
func (h *soakHub) visit(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		c := &soakConsumer{soak: h.soak, name: fmt.Sprintf("%s, visitor %d", h.name, len(h.visitors))}
		leaving := make(chan struct{})
		if rng.IntN(2) == 0 { // let everything pile up until then
			c.misbehave = func(ctx context.Context, _ *pghub.Event) {
				select {
				case <-leaving:
				case <-ctx.Done():
				}
			}
		}
		consumer, err := h.hub.Consumer(context.Background(), c.handle, nil)
		if err != nil {
			return // the hub is stopping
		}
		c.consumer = consumer
		h.visitors = append(h.visitors, c)
		c.stay(ctx, rng)
		if rng.IntN(3) == 0 {
			_ = consumer.Close() // never fails
		} else {
			c.drained = h.soak.now()
			drained, cancel := context.WithCancel(context.Background())
			cancel()
			_ = consumer.Drain(drained) // goes on without being waited for
		}
		close(leaving)
		<-consumer.Done()
	}
}

func (c *soakConsumer) stay(ctx context.Context, rng *rand.Rand) {
	limit, cancel := context.WithTimeout(ctx, time.Duration(1+rng.IntN(1000))*time.Millisecond)
	defer cancel()
	var topics []string
	for _, topic := range c.soak.all() {
		if rng.IntN(2) == 0 && c.subscribe(limit, topic) {
			topics = append(topics, topic)
		}
	}
	pause(ctx, time.Duration(rng.IntN(150))*time.Millisecond)
	for _, topic := range topics {
		c.unsubscribing(topic) // for the ledger's sake: what is to come of what is queued is seen beside the reference
	}
}

// judgeVisitors asks the oracle about those who came and went.
func (o *oracle) judgeVisitors(h *soakHub, reference *reference) {
	for _, c := range h.visitors {
		w := c.witness()
		o.judge(w)
		o.judgeRuns(w, reference)
		if c.drained > 0 {
			o.judgeDrained(w, reference, c.drained)
		}
		if last := w.stream[len(w.stream)-1].what; last != pghub.ActionClose && last != pghub.ActionStop {
			o.violation(w, "leaves with %s", last)
		}
	}
}
