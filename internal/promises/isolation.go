package promises

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Handlers that are stuck delay no other, and lose nothing that their queue has room for.
func stuckHandlers(t *testing.T, b Backend) {
	const stuck, events = 300, 50
	hub := startHub(t, b, nil)
	quick := watch(t, hub, "a")
	open := make(chan struct{})
	var gates []*gate
	for range stuck {
		g := newGate()
		g.open = open
		gates = append(gates, g)
		consume(t, hub, g.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	}
	quick.expect(t, "subscribe a")
	for i := range events {
		b.Publish(numbers("a", i, 1)...)
		quick.expect(t, fmt.Sprintf("a e%d", i))
	}
	for _, g := range gates {
		require.Empty(t, g.on("a"))
	}
	close(open)
	for _, g := range gates {
		g.expect(t, "subscribe a")
		for i := range events {
			g.expect(t, fmt.Sprintf("a e%d", i))
		}
	}
}

// Handlers that panic, or end their goroutine, go on with their next event, and harm no other.
func breakingHandlers(t *testing.T, b Backend) {
	const events = 50
	heard := newTroubles()
	hub := startHub(t, b, func(cfg *pghub.Config) { cfg.OnError = heard.note })
	quick := watch(t, hub, "a")
	breaks := map[string]func(){"panics": func() { panic("on purpose") }, "ends": runtime.Goexit}
	broken := map[string]*stream{}
	consumers := map[string]*pghub.Consumer{}
	for name, breakIt := range breaks {
		seen := newStream()
		broken[name] = seen
		consumers[name] = consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
			seen.handle(ctx, ev)
			if ev.Advisory == nil && ev.Key[0]%2 == 0 {
				breakIt()
			}
		}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	}
	b.Publish(numbers("a", 0, events)...)
	b.Publish(numbers("a", events, 2)...)
	for _, s := range []*stream{quick, broken["panics"], broken["ends"]} {
		s.expect(t, "subscribe a")
		for i := range events + 2 {
			s.expect(t, fmt.Sprintf("a e%d", i))
		}
	}
	for name, c := range consumers {
		require.NoError(t, c.Drain(within(t)), name)
		broken[name].expect(t, "close")
		require.Equal(t, uint64(events/2+1), c.Stats().Panics, name)
	}
	heard.await(t, 2*(events/2+1), pghub.ErrPanic)
}

// A handler may call everything, also on itself.
func reentrantHandlers(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	answers, late := watch(t, hub, "answer"), newStream()
	var self *pghub.Consumer
	made := make(chan struct{})
	seen := newStream()
	self = consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
		seen.handle(ctx, ev)
		if ev.Topic != "ask" {
			return
		}
		<-made // self is there
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		switch ev.Key[0] {
		case 1:
			check(hub.Notify(ctx, "answer", []int64{1}, nil))
			check(self.Subscribe(ctx, "more"))
			_, err := hub.Consumer(ctx, late.handle, &pghub.ConsumerConfig{Topics: []string{"ask"}})
			check(err)
		case 2:
			check(self.Unsubscribe(ctx, "more"))
			check(hub.Notify(ctx, "answer", []int64{int64(len(self.Topics())), int64(self.Stats().Panics)}, nil))
		case 3:
			check(self.Drain(ctx))
			check(self.Close())
		}
	}, &pghub.ConsumerConfig{Topics: []string{"ask"}})
	close(made)
	b.Publish(Message{"ask", "e1"})
	answers.expect(t, "subscribe answer", "answer e1")
	seen.expect(t, "subscribe ask", "ask e1", "subscribe more")
	late.expect(t, "subscribe ask")
	b.Publish(Message{"more", "e"}, Message{"ask", "e2"})
	answers.expect(t, "answer e1,0")
	seen.expect(t, "more e", "ask e2")
	b.Publish(Message{"more", "e:1"}, Message{"ask", "e3"}, Message{"ask", "e4"})
	done(t, self.Done(), "the consumer that closed itself")
	late.expect(t, "ask e2", "ask e3", "ask e4")
	seen.expect(t, "ask e3", "close")
}
