package pghub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/source"
)

func TestSupervisoryEventsToTheLetter(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "name", `a"é`)
		startHub(t, hub)
		server.Kill()
		w.await(t, `{"action":"reconnect","final":false}`)
		other, _ := watch(t, hub)
		require.NoError(t, c.Close())
		awaitClosed(t, c.Done(), "the end of the consumer")
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{
			`{"action":"connect","final":false}`,
			`{"action":"subscribe","topic":"name","final":false}`,
			`{"action":"subscribe","topic":"a\"é","final":false}`,
			`{"action":"disconnect","final":false}`,
			`{"action":"reconnect","final":false}`,
			`{"action":"close","final":true}`,
		}, w.lines())
		require.Equal(t, []string{`{"action":"stop","final":true}`}, other.lines())
		for _, ev := range w.seen {
			require.Empty(t, ev.Topic)
			require.Empty(t, ev.Key)
			require.Nil(t, ev.Payload)
			require.Equal(t, ev.Advisory.Action == ActionClose, ev.Advisory.Final)
			b, err := json.Marshal(ev)
			require.NoError(t, err)
			require.Equal(t, `{"topic":null,"key":[],"value":`+string(ev.Value)+`}`, string(b))
		}
	})
}

// Subscriptions are announced in the order in which they were made.
func TestTheStreamOfAConsumerMadeBeforeStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "b", "a")
		require.NoError(t, c.Subscribe(within(t), "d", "c"))
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		require.Equal(t, []string{"b", "c", "d"}, c.Topics())
		synctest.Wait()
		require.Empty(t, w.lines())
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("b"), lineSubscribe("d"), lineSubscribe("c"))
		require.Equal(t, []string{`LISTEN "b";LISTEN "c";LISTEN "d"`}, sortedStatements(server))
	})
}

func sortedStatements(server *fakepg.Server) (sent []string) {
	for _, sql := range listensSince(server, 0) {
		parts := strings.Split(sql, ";")
		slices.Sort(parts)
		sent = append(sent, strings.Join(parts, ";"))
	}
	return sent
}

// Everything that was subscribed to before Start may be gone by then.
func TestStartWithNothingToListenTo(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ProbeInterval: -1})
		w, c := watch(t, hub, "a")
		closed, other := watch(t, hub, "b")
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		require.NoError(t, other.Close())
		startHub(t, hub)
		w.expect(t, lineConnect)
		closed.expect(t, lineClose)
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
	})
}

func TestTheStreamOfAConsumerMadeAfterStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		w, c := watch(t, hub, "b", "a")
		require.NoError(t, c.Subscribe(within(t), "c"))
		w.expect(t, lineSubscribe("b"), lineSubscribe("a"), lineSubscribe("c"))
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		server.Notify("c", "e")
		w.expect(t, "c e")
	})
}

// Only what is new is announced after an outage; who came during it has not missed anything and hears of no loss.
func TestTheStreamsOfAnOutage(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a", "b")
		startHub(t, hub)
		server.RefuseDials(errRefusedByTest)
		server.Kill()
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"), lineDisconnect)

		calls := []<-chan error{
			background(func() error { return c.Subscribe(context.Background(), "c") }),
			background(func() error { return c.Subscribe(context.Background(), "a") }), // it has that one, but not in effect
		}
		require.NoError(t, c.Unsubscribe(within(t), "b"))
		newcomer, other := watch(t, hub)
		calls = append(calls, background(func() error { return other.Subscribe(context.Background(), "a") }))
		made := newWitness()
		calls = append(calls, background(func() error {
			_, err := hub.Consumer(context.Background(), made.handle, &ConsumerConfig{Topics: []string{"d"}})
			return err
		}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.ErrorIs(t, c.Subscribe(ctx, "never"), context.DeadlineExceeded)
		for _, call := range calls {
			require.Empty(t, call)
		}

		server.RefuseDials(nil)
		for _, call := range calls {
			require.NoError(t, outcome(t, call))
		}
		w.expect(t, lineReconnect, lineSubscribe("c"))
		newcomer.expect(t, lineSubscribe("a"))
		made.expect(t, lineSubscribe("d"))
		require.Equal(t, []string{"a", "c", "d"}, server.Listening())

		server.Kill() // a loss that all of them have seen
		for _, w := range []*witness{w, newcomer, made} {
			w.expect(t, lineDisconnect, lineReconnect)
			require.Empty(t, w.rest())
		}
	})
}

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

// gate is a handler that waits, at every event or as told, to be let through.
type gate struct {
	*witness
	entered chan *Event   // before it waits
	open    chan struct{} // closed: it waits no more
}

func newGate() *gate {
	return &gate{witness: newWitness(), entered: make(chan *Event, 1), open: make(chan struct{})}
}

func (g *gate) handle(ctx context.Context, ev *Event) {
	select {
	case g.entered <- ev:
	default:
	}
	<-g.open
	g.witness.handle(ctx, ev)
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
				require.Contains(t, err.Error(), "consumer_test.go", "the stack says where")
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

// All consumers of the same topics see the same order.
func TestEveryConsumerSeesTheOrderOfCommit(t *testing.T) {
	hub := realHub(t, Config{})
	var witnesses []*witness
	for range 4 {
		w, _ := watch(t, hub, "a", "b", "c")
		witnesses = append(witnesses, w)
	}
	startHub(t, hub)
	var publishers sync.WaitGroup
	for i := range 8 {
		publishers.Go(func() {
			for j := range 100 {
				_ = hub.Notify(context.Background(), string("abc"[j%3]), []int64{int64(i), int64(j)}, nil)
			}
		})
	}
	publishers.Wait()
	require.NoError(t, hub.Stop(within(t)))
	events := slices.DeleteFunc(witnesses[0].lines(), func(l string) bool { return strings.Contains(l, "subscribe") })
	require.Len(t, events, 802)
	for _, w := range witnesses[1:] {
		require.Equal(t, events, slices.DeleteFunc(w.lines(), func(l string) bool { return strings.Contains(l, "subscribe") }))
	}
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

func TestALagStandsWhereEventsAreMissing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError, QueueSize: 3})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		for i := range 10 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		synctest.Wait()
		close(g.open)
		g.expect(t, lineConnect, lineSubscribe("a"), lineLag(7), "a e7", "a e8", "a e9")
		errs.await(t, func(err error) bool { return errors.Is(err, ErrSlowConsumer) })
		require.Len(t, errs.all(), 1)
	})
}

func TestAConsumerThatIsClosedWhenItOverflows(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}, QueueSize: 3, Overflow: CloseConsumer})
		require.NoError(t, err)
		startHub(t, hub)
		<-g.entered
		for range 4 {
			server.Notify("a", "e")
		}
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.ErrorIs(t, c.Subscribe(within(t), "a"), ErrClosed)
		close(g.open)
		awaitClosed(t, c.Done(), "the end of the consumer")
		g.expect(t, lineConnect)
		last := g.take(t)
		require.Equal(t, lineClose, lineOf(last))
		require.ErrorIs(t, last.Advisory.Err, ErrSlowConsumer)
		require.Empty(t, g.rest())
	})
}

func TestResyncComesBetweenTheGapAndTheNextEvent(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w := newWitness()
		release := make(chan struct{})
		gaps := make(chan Gap, 1)
		_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{
			Topics: []string{"a"},
			Resync: func(_ context.Context, gap Gap) error {
				gaps <- gap
				<-release
				return nil
			},
		})
		require.NoError(t, err)
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		synctest.Wait()
		require.Empty(t, gaps, "the first connection is no gap")

		lost := time.Now()
		server.Kill()
		gap := <-gaps
		server.Notify("a", "e")
		synctest.Wait()
		w.expect(t, lineDisconnect, lineReconnect)
		require.Empty(t, w.rest(), "events wait for the resync")
		require.Equal(t, lost, gap.Since)
		require.False(t, gap.Until.Before(lost))
		require.Error(t, gap.Err)
		require.Zero(t, gap.Dropped)
		close(release)
		w.expect(t, "a e")
	})
}

func TestResyncAfterALag(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		gaps := make(chan Gap, 10)
		_, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{
			Topics: []string{"a"}, QueueSize: 2,
			Resync: func(_ context.Context, gap Gap) error { gaps <- gap; return nil },
		})
		require.NoError(t, err)
		startHub(t, hub)
		for range 7 {
			server.Notify("a", "e")
		}
		synctest.Wait()
		close(g.open)
		g.expect(t, lineConnect, lineSubscribe("a"), lineLag(5), "a e", "a e")
		require.Equal(t, Gap{Dropped: 5}, <-gaps)
		require.Empty(t, gaps)
	})
}

// A resync that fails is tried again, ever more rarely, until it succeeds.
func TestResyncIsRetried(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("the database is still warming up") },
		"panic": func() error { panic("the database is still warming up") },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				errs := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: errs.onError, ReconnectMin: time.Second, ReconnectMax: time.Minute})
				w := newWitness()
				var tries []time.Time
				c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{
					Topics: []string{"a"},
					Resync: func(context.Context, Gap) error {
						if tries = append(tries, time.Now()); len(tries) < 20 {
							return fail()
						}
						return nil
					},
				})
				require.NoError(t, err)
				startHub(t, hub)
				server.Kill()
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
				server.Notify("a", "e")
				time.Sleep(time.Hour)
				w.expect(t, "a e")
				require.Len(t, tries, 20)
				for i, at := range tries[1:] {
					require.LessOrEqual(t, at.Sub(tries[i]), min(time.Second<<i, time.Minute))
				}
				require.Greater(t, tries[19].Sub(tries[0]), time.Minute)
				reported := errs.await(t, func(err error) bool { return strings.Contains(err.Error(), "resync") })
				require.ErrorContains(t, reported, "warming up")
				if name == "panic" {
					require.ErrorIs(t, reported, ErrPanic)
					require.EqualValues(t, 19, c.Stats().Panics)
				}
			})
		})
	}
}

func TestCloseEndsAResync(t *testing.T) {
	for name, resync := range map[string]func(context.Context, Gap) error{
		"under way":       func(ctx context.Context, _ Gap) error { <-ctx.Done(); return ctx.Err() },
		"that will retry": func(context.Context, Gap) error { return errors.New("no good") },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{ReconnectMin: time.Hour, ReconnectMax: time.Hour})
				w := newWitness()
				c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"a"}, Resync: resync})
				require.NoError(t, err)
				startHub(t, hub)
				server.Kill()
				passing(t, time.Minute, func() bool { return len(w.lines()) == 4 })
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
				require.NoError(t, c.Close())
				synctest.Wait()
				require.Equal(t, []string{lineClose}, w.rest(), "at once")
			})
		})
	}
}

func TestEachConsumerHasItsOwnCodec(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		consumer := func(codec Codec) *witness {
			w := newWitness()
			_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"a"}, Codec: codec})
			require.NoError(t, err)
			return w
		}
		keyValue, raw, json := consumer(nil), consumer(RawCodec{}), consumer(JSONCodec{})
		startHub(t, hub)
		server.Notify("a", `e7:{"x":1}`)
		server.Notify("a", `{"x":1}`)
		for _, w := range []*witness{keyValue, raw, json} {
			w.expect(t, lineConnect, lineSubscribe("a"))
		}
		ev := keyValue.take(t)
		require.Equal(t, []int64{7}, ev.Key)
		require.Equal(t, `{"x":1}`, string(ev.Value))
		ev = raw.take(t)
		require.Nil(t, ev.Key)
		require.Nil(t, ev.Value)
		require.Equal(t, `e7:{"x":1}`, string(ev.Payload))
		raw.expect(t, `a {"x":1}`)
		json.take(t)
		require.Equal(t, `{"x":1}`, string(json.take(t).Value))
		synctest.Wait()
		require.Empty(t, keyValue.rest())
		require.EqualValues(t, 1, hub.Stats().Undecodable)
	})
}

// anyCodec is comparable as a type, and yet two of its values may not be.
type anyCodec struct {
	KeyValueCodec
	_    int
	with any
}

func TestCodecsThatCannotBeCompared(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{Codec: anyCodec{with: []int{1}}})
		w1, _ := watch(t, hub, "a")
		w2, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w1.expect(t, lineConnect, lineSubscribe("a"), "a e")
		w2.expect(t, lineConnect, lineSubscribe("a"), "a e")
	})
}

func TestUndecodablePayloadsHarmNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		for _, payload := range []string{"e1", "x", "", "e--1", "e9223372036854775808", "e2"} {
			server.Notify("a", payload)
		}
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1", "a e2")
		require.EqualValues(t, 4, hub.Stats().Undecodable)
		synctest.Wait()
		require.Len(t, errs.all(), 4)
		for i, payload := range []string{"x", "", "e--1", "e9223372036854775808"} {
			var undecodable *DecodeError
			require.ErrorAs(t, errs.all()[i], &undecodable)
			require.Equal(t, "a", undecodable.Topic)
			require.Equal(t, payload, string(undecodable.Payload))
		}
	})
}

type panickingCodec struct{ KeyValueCodec }

func (panickingCodec) Decode(*Event) error { panic("no good") }

func TestACodecThatPanicsHarmsNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		_, err := hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Topics: []string{"a"}, Codec: panickingCodec{}})
		require.NoError(t, err)
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		err = errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
		require.ErrorAs(t, err, new(*DecodeError))
	})
}

// OnError may be slow, call the hub, panic or end its goroutine.
func TestOnErrorThatMisbehaves(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		var hub *Hub
		var inside atomic.Int64
		hub = fakeHub(t, server, Config{OnError: func(err error) {
			defer inside.Add(-1)
			if inside.Add(1) > 1 {
				panic("OnError is concurrent with itself")
			}
			hub.Stats()
			time.Sleep(time.Second)
			errs.onError(err)
			switch len(errs.all()) {
			case 1:
				panic("no good")
			case 2:
				runtime.Goexit()
			}
		}})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		for range 4 {
			server.Notify("a", "undecodable")
		}
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		require.NoError(t, hub.Stop(context.Background()))
		require.Len(t, errs.all(), 4)
		require.Zero(t, inside.Load())
	})
}

// requireSoundStream requires of a stream: one final event, at its end; disconnect and reconnect in turn; events of a topic
// only behind its subscribe, in order, and without a gap that nothing announces.
func requireSoundStream(t *testing.T, w *witness) {
	t.Helper()
	away := false
	next := map[string]int64{} // of the topics whose events follow each other
	known := map[string]bool{}
	for i, ev := range w.seen {
		if ev.Advisory == nil {
			require.True(t, known[ev.Topic], "an event of %q came before its subscribe", ev.Topic)
			want, inSequence := next[ev.Topic]
			if !inSequence {
				require.GreaterOrEqual(t, ev.Key[0], want)
			} else {
				require.Equal(t, want, ev.Key[0], "event %d, of %q: %v", i, ev.Topic, linesOf(w.seen[:i+1]))
			}
			next[ev.Topic] = ev.Key[0] + 1
			continue
		}
		switch ev.Advisory.Action {
		case ActionSubscribe:
			known[ev.Advisory.Topic] = true
			delete(next, ev.Advisory.Topic)
		case ActionDisconnect:
			require.False(t, away, "a second disconnect")
			away = true
		case ActionReconnect:
			require.True(t, away, "reconnect without disconnect")
			away = false
			clear(next)
		case ActionLag:
			clear(next)
		}
		require.Equal(t, i == len(w.seen)-1, ev.Advisory.Final, "event %d of %d", i, len(w.seen))
	}
	require.NotEmpty(t, w.seen)
}

// Whatever calls and losses come together, every consumer's stream stays sound, and Stop ends it.
func TestStreamsStaySound(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ReconnectMax: time.Second, QueueSize: 8})
		topics := []string{"a", "b", "c"}
		var witnesses []*witness
		var calls sync.WaitGroup
		for range 20 {
			w := newWitness()
			witnesses = append(witnesses, w)
			c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
				w.handle(ctx, ev)
				if rand.IntN(20) == 0 {
					time.Sleep(rand.N(time.Second))
				}
			}, &ConsumerConfig{Topics: topics[:rand.IntN(4)], Overflow: Overflow(rand.IntN(3))})
			require.NoError(t, err)
			calls.Go(func() {
				for range 50 {
					ctx, cancel := context.WithTimeout(context.Background(), rand.N(time.Second))
					switch topic := topics[rand.IntN(3)]; rand.IntN(40) {
					case 0:
						_ = c.Close()
					case 1:
						_ = c.Drain(ctx)
					default:
						_ = c.Unsubscribe(ctx, topic)
						_ = c.Subscribe(ctx, topic)
					}
					cancel()
					time.Sleep(rand.N(time.Second))
				}
			})
		}
		startHub(t, hub)
		for _, topic := range topics {
			calls.Go(func() {
				for i := range 1000 {
					server.Notify(topic, fmt.Sprint("e", i))
					time.Sleep(rand.N(50 * time.Millisecond))
				}
			})
		}
		calls.Go(func() {
			for range 10 {
				time.Sleep(rand.N(5 * time.Second))
				server.Kill()
			}
		})
		time.Sleep(rand.N(time.Minute))
		require.NoError(t, hub.Stop(context.Background()))
		for _, w := range witnesses {
			requireSoundStream(t, w)
		}
		calls.Wait()
	})
}

// heap is how much is allocated and in use.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what has finalizers goes in the second
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}

func TestAnIdleConsumerIsCheap(t *testing.T) {
	consumers, topics := 50_000, 1000
	server := fakepg.New()
	t.Cleanup(server.Close)
	hub := fakeHub(t, server, Config{})
	startHub(t, hub)
	_, err := hub.Consumer(context.Background(), func(context.Context, *Event) {}, &ConsumerConfig{Topics: []string{"first"}})
	require.NoError(t, err)
	goroutines, before := runtime.NumGoroutine(), heap()

	var told atomic.Int64
	handler := func(context.Context, *Event) { told.Add(1) }
	kept := make([]*Consumer, consumers)
	for i := range kept {
		kept[i], err = hub.Consumer(context.Background(), handler, &ConsumerConfig{Topics: []string{fmt.Sprint("t", i%topics)}})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return told.Load() == int64(consumers) }, patience, time.Millisecond)
	const ofTheTest = 10
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+ofTheTest }, patience, time.Millisecond)
	var each int64
	require.Eventually(t, func() bool { // the stacks of goroutines that have ended are given back by and by
		each = (heap() - before) / int64(consumers)
		return each <= 1024
	}, patience, 10*time.Millisecond, "bytes a consumer")
	t.Logf("%d bytes a consumer", each)
	require.Equal(t, consumers+1, hub.Stats().Consumers)
	runtime.KeepAlive(kept)
}

func TestABlockedConsumerIsBounded(t *testing.T) {
	events, burst := fewer(1_000_000), 100
	server := fakepg.New()
	t.Cleanup(server.Close)
	hub := fakeHub(t, server, Config{})
	g := newGate()
	unblock := sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(unblock)
	c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	startHub(t, hub)
	<-g.entered
	before := heap()
	notifications := make([]source.Message, burst)
	for i := 0; i < events; i += burst {
		for j := range notifications {
			notifications[j] = source.Message{Topic: []byte("a"), Payload: fmt.Append(nil, "e", i+j)}
		}
		hub.router.route(notifications, false, false)
	}
	grown := heap() - before
	t.Logf("%d kB for %d queued events", grown/1024, c.Stats().Queued)
	require.Less(t, grown, int64(defaultQueueSize*512))
	require.LessOrEqual(t, c.Stats().Queued, defaultQueueSize)
	require.EqualValues(t, events, int(c.Stats().Dropped)+c.Stats().Queued)

	unblock()
	g.await(t, fmt.Sprint("a e", events-1))
	require.Equal(t, lineLag(events-defaultQueueSize), g.lines()[2])
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
