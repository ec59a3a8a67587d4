package pghub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// A handler that panics or ends its goroutine loses the event that it was given, and nothing else.
func TestAHandlerThatFails(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic":            func() { panic("no good") },
		"panic with nil":   func() { panic(nil) },
		"runtime.Goexit":   runtime.Goexit,
		"a panic in sleep": func() { time.Sleep(time.Second); panic("no good") },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				errs := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: errs.onError})
				w := newWitness()
				c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
					w.handle(ctx, ev)
					if ev.Advisory == nil && ev.Key[0]%2 == 0 || ev.Advisory != nil && ev.Advisory.Final {
						fail()
					}
				}, &ConsumerConfig{Topics: []string{"a"}})
				require.NoError(t, err)
				healthy, _ := watch(t, hub, "a")
				startHub(t, hub)
				for i := range 10 {
					server.Notify("a", fmt.Sprint("e", i))
				}
				for _, w := range []*witness{w, healthy} {
					w.expect(t, lineConnect, lineSubscribe("a"))
					for i := range 10 {
						w.expect(t, fmt.Sprint("a e", i))
					}
				}
				require.NoError(t, c.Drain(within(t)))
				w.expect(t, lineClose)
				require.EqualValues(t, 6, c.Stats().Panics)
				require.EqualValues(t, 13, c.Stats().Delivered)
				require.EqualValues(t, 6, hub.Stats().Panics)
				err = errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
				require.Contains(t, err.Error(), `on an event of topic "a"`)
				require.Contains(t, err.Error(), "consumer_handler_test.go", "the stack says where")
			})
		})
	}
}

// A handler may use the hub that calls it, and wait for what it does.
func TestAHandlerMayCallTheHub(t *testing.T) {
	hub := realHub(t, Config{})
	w, inner := newWitness(), newWitness()
	var c *Consumer
	c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
		w.handle(ctx, ev)
		if ev.Topic != "a" {
			return
		}
		_, err := hub.Consumer(context.Background(), inner.handle, &ConsumerConfig{Topics: []string{"b"}})
		err = errors.Join(err, c.Subscribe(ctx, "c"), hub.Notify(ctx, "b", nil, nil), hub.Notify(ctx, "c", nil, nil), c.Unsubscribe(ctx, "a"))
		if err != nil {
			panic(err)
		}
	}, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	startHub(t, hub)
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	w.expect(t, lineConnect, lineSubscribe("a"), "a e", lineSubscribe("c"), "c e")
	inner.expect(t, lineSubscribe("b"), "b e")
	require.Equal(t, []string{"c"}, c.Topics())
}

func TestAHandlerIsNeverConcurrentWithItself(t *testing.T) {
	const topics, each = 4, 500
	hub := realHub(t, Config{})
	var inside, overlaps atomic.Int64
	w := newWitness()
	var names []string
	for i := range topics {
		names = append(names, fmt.Sprint("t", i))
	}
	_, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
		if inside.Add(1) > 1 {
			overlaps.Add(1)
		}
		runtime.Gosched()
		w.handle(ctx, ev)
		inside.Add(-1)
	}, &ConsumerConfig{Topics: names})
	require.NoError(t, err)
	startHub(t, hub)
	var publishers sync.WaitGroup
	for _, topic := range names {
		publishers.Go(func() {
			for i := range each {
				_ = hub.Notify(context.Background(), topic, []int64{int64(i)}, nil)
			}
		})
	}
	publishers.Wait()
	require.NoError(t, hub.Stop(within(t)))
	for _, topic := range names {
		w.requireNumbers(t, topic, each)
	}
	require.Zero(t, overlaps.Load())
}

// A handler that never returns costs the others nothing, and does not pin the server's notification queue.
func TestAHandlerThatNeverReturns(t *testing.T) {
	const events, room = 20_000, 100
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	stuck := newGate()
	unstick := sync.OnceFunc(func() { close(stuck.open) })
	t.Cleanup(unstick)
	_, err := hub.Consumer(context.Background(), stuck.handle, &ConsumerConfig{Topics: []string{"a"}, QueueSize: room})
	require.NoError(t, err)
	var healthy []*witness
	for range 3 {
		w, _ := watch(t, hub, "a")
		healthy = append(healthy, w)
	}
	startHub(t, hub)
	<-stuck.entered

	other := pgtest.Conn(t, dsn)
	for i := 0; i < events; i += 1000 {
		_, err := other.Exec(within(t), `SELECT pg_notify('a', 'e' || n) FROM generate_series($1::int, $1 + 999) n`, i)
		require.NoError(t, err)
		healthy[0].await(t, fmt.Sprint("a e", i+999))
	}
	for _, w := range healthy[1:] {
		w.await(t, fmt.Sprint("a e", events-1))
	}
	for _, w := range healthy {
		w.requireNumbers(t, "a", events)
		require.NotContains(t, strings.Join(w.lines(), ""), "lag")
	}
	require.Eventually(t, func() bool {
		var usage float64
		require.NoError(t, other.QueryRow(within(t), `SELECT pg_notification_queue_usage()`).Scan(&usage))
		return usage == 0
	}, patience, 10*time.Millisecond)

	unstick()
	require.NoError(t, hub.Stop(within(t)))
	next, dropped := 0, 0
	for _, ev := range stuck.seen {
		switch {
		case ev.Advisory == nil:
			require.EqualValues(t, next, ev.Key[0])
			next++
		case ev.Advisory.Action == ActionLag:
			require.ErrorIs(t, ev.Advisory.Err, ErrSlowConsumer)
			next += int(ev.Advisory.Dropped)
			dropped += int(ev.Advisory.Dropped)
		}
	}
	require.Equal(t, events, next, "every event was seen, or is counted where it is missing")
	require.Greater(t, dropped, events-2*room)
	require.EqualValues(t, dropped, hub.Stats().Dropped)
}

// A handler finds its own consumer, from its first event on, and so does Resync. Nobody else does.
func TestConsumerFrom(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		found := make(chan *Consumer, 10)
		c, err := hub.Consumer(t.Context(), func(ctx context.Context, _ *Event) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			found <- ConsumerFrom(ctx)
		}, &ConsumerConfig{Topics: []string{"a"}, ResyncFirst: true, Resync: func(ctx context.Context, _ Gap) error {
			found <- ConsumerFrom(ctx)
			return nil
		}})
		require.NoError(t, err)
		startHub(t, hub)
		for range 3 { // connect, subscribe, Resync
			require.Same(t, c, <-found)
		}
		require.Nil(t, ConsumerFrom(t.Context()))
	})
}

type tenant struct{}

// Handlers' contexts descend from BaseContext: they have its values, and end with it.
func TestBaseContext(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		base, cancel := context.WithCancelCause(context.WithValue(t.Context(), tenant{}, "blue"))
		hub := fakeHub(t, server, Config{BaseContext: base})
		contexts := make(chan context.Context, 10)
		_, err := hub.Consumer(t.Context(), func(ctx context.Context, _ *Event) { contexts <- ctx }, nil)
		require.NoError(t, err)
		startHub(t, hub)
		ctx := <-contexts
		require.Equal(t, "blue", ctx.Value(tenant{}))
		require.NoError(t, ctx.Err())
		cancel(io.EOF)
		require.ErrorIs(t, context.Cause(ctx), io.EOF)
	})
}

// An error that a handler throws can be told from others.
func TestPanicWithAnError(t *testing.T) {
	for name, test := range map[string]struct {
		value any
		is    error
		text  string
	}{
		"an error": {fmt.Errorf("wrapped: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF, "wrapped: unexpected EOF"},
		"a text":   {"oops", ErrPanic, "oops"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newErrorLog()
				hub := unitHub(t, Config{OnError: log.onError})
				c, err := hub.Consumer(t.Context(), func(context.Context, *Event) { panic(test.value) }, &ConsumerConfig{Name: "orders", Topics: []string{"a"}})
				require.NoError(t, err)
				deliveryPut(c, queueRun("a", 1))
				synctest.Wait()
				require.Len(t, log.all(), 1)
				require.ErrorIs(t, log.all()[0], ErrPanic)
				require.ErrorIs(t, log.all()[0], test.is)
				require.ErrorContains(t, log.all()[0], test.text)
				require.ErrorContains(t, log.all()[0], `consumer "orders"`)
				require.NoError(t, c.Close())
			})
		})
	}
}
