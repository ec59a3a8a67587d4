package pghub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestCloseDuringAnOutage(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		server.RefuseDials(errRefusedByTest)
		server.Kill()
		w.await(t, lineDisconnect)
		waits := background(func() error { return c.Subscribe(context.Background(), "b") })
		synctest.Wait()
		require.NoError(t, c.Drain(within(t)))
		require.ErrorIs(t, outcome(t, waits), ErrClosed)
		w.expect(t, lineClose)
		server.RefuseDials(nil)
		awaitState(t, hub, StateListening)
		require.Empty(t, server.Listening())
	})
}

func TestUnsubscribedEventsAreNotDelivered(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a", "b"}})
		require.NoError(t, err)
		startHub(t, hub)
		<-g.entered
		for i := range 10 { // one by one, and as a burst
			server.Notify("a", fmt.Sprint("e", i))
			server.Notify("b", fmt.Sprint("e", i))
			if i < 5 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		require.Equal(t, 10, c.Stats().Queued)
		require.NoError(t, c.Subscribe(within(t), "a"))
		server.Notify("a", "e10")
		synctest.Wait()
		close(g.open)
		g.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
		for i := range 10 {
			g.expect(t, fmt.Sprint("b e", i))
		}
		g.expect(t, lineSubscribe("a"), "a e10")
	})
}

// What the worker has fetched together with the event that the handler is busy with counts as queued too.
func TestUnsubscribeFromWithinAHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w := newWitness()
		c := make(chan *Consumer, 1)
		consumer, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
			w.handle(ctx, ev)
			if ev.Topic == "a" {
				c := <-c
				if err := c.Unsubscribe(ctx, "a"); err != nil {
					panic(err)
				}
			}
		}, &ConsumerConfig{Topics: []string{"a", "b"}})
		require.NoError(t, err)
		startHub(t, hub)
		for i := range 100 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		server.Notify("b", "e")
		synctest.Wait()
		c <- consumer
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"), "a e0", "b e")
		require.Empty(t, w.rest())
	})
}

func TestDrainDeliversWhatIsQueued(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		for i := range 1000 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		synctest.Wait()
		drained := []<-chan error{
			background(func() error { return c.Drain(context.Background()) }),
			background(func() error { return c.Drain(context.Background()) }),
		}
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.Empty(t, c.Topics())
		server.Notify("a", "e1000")
		require.ErrorIs(t, c.Subscribe(within(t), "b"), ErrClosed)
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Drain(ctx), context.DeadlineExceeded)
		for _, call := range drained {
			require.Empty(t, call)
		}

		close(g.open)
		for _, call := range drained {
			require.NoError(t, outcome(t, call))
		}
		require.Zero(t, hub.Stats().Consumers)
		g.requireNumbers(t, "a", 1000)
		lines := g.lines()
		require.Equal(t, lineClose, lines[len(lines)-1])
		require.NoError(t, c.Drain(within(t)))
		require.NoError(t, c.Close())
		synctest.Wait()
		require.Equal(t, lines, g.lines())
	})
}

func TestCloseCutsDrainShort(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		server.Notify("a", "e")
		drained := background(func() error { return c.Drain(context.Background()) })
		synctest.Wait()
		require.NoError(t, c.Close())
		close(g.open)
		require.NoError(t, outcome(t, drained))
		require.Equal(t, []string{lineConnect, lineClose}, g.lines())
	})
}

func TestCloseDiscardsWhatIsQueued(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w := newWitness()
		var cause error
		c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
			w.handle(ctx, ev)
			if ev.Topic == "a" {
				<-ctx.Done()
				cause = ctx.Err()
			}
		}, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		for i := range 1000 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		synctest.Wait()
		var closes sync.WaitGroup
		for range 10 {
			closes.Go(func() { _ = c.Close() })
		}
		closes.Wait()
		awaitClosed(t, c.Done(), "the end of the consumer")
		require.Equal(t, []string{lineConnect, lineSubscribe("a"), "a e0", lineClose}, w.lines())
		require.ErrorIs(t, cause, context.Canceled)
		require.ErrorIs(t, c.Subscribe(within(t), "a"), ErrClosed)
	})
}

func TestCloseAndDrainFromWithinTheHandler(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Consumer) error{
		"close": func(_ context.Context, c *Consumer) error { return c.Close() },
		"drain": func(ctx context.Context, c *Consumer) error { return c.Drain(ctx) },
		"both": func(ctx context.Context, c *Consumer) error {
			return errors.Join(c.Drain(ctx), c.Close(), c.Drain(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				w := newWitness()
				var c *Consumer
				made := make(chan struct{})
				c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
					<-made
					if ev.Topic == "a" {
						if err := end(ctx, c); err != nil {
							panic(err)
						}
					}
					w.handle(ctx, ev)
				}, &ConsumerConfig{Topics: []string{"a"}})
				require.NoError(t, err)
				close(made)
				startHub(t, hub)
				server.Notify("a", "e0")
				awaitClosed(t, c.Done(), "the end of the consumer")
				require.Equal(t, []string{lineConnect, lineSubscribe("a"), "a e0", lineClose}, w.lines())
				require.Zero(t, c.Stats().Panics)
			})
		})
	}
}
