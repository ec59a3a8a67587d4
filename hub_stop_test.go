package pghub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestStopWhileStarting(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.HangDials(true)
		hub := fakeHub(t, server, Config{})
		started := background(func() error { return hub.Start(context.Background()) })
		synctest.Wait()
		require.NoError(t, hub.Stop(within(t)))
		require.ErrorIs(t, outcome(t, started), ErrStopped)
	})
}

func TestStopBeforeStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{lineStop}, w.lines())
		require.ErrorIs(t, hub.Start(context.Background()), ErrStopped)
		require.Empty(t, server.Dials())
	})
}

func TestStopMayBeCalledAgainAndAtOnce(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, nil)
		require.NoError(t, err)
		startHub(t, hub)
		<-g.entered
		var calls []<-chan error
		for range 10 {
			calls = append(calls, background(func() error { return hub.Stop(context.Background()) }))
		}
		synctest.Wait()
		for _, call := range calls {
			require.Empty(t, call, "each of them waits")
		}
		close(g.open)
		for _, call := range calls {
			require.NoError(t, outcome(t, call))
		}
		require.Equal(t, []string{lineConnect, lineStop}, g.lines())
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, hub.Stop(ended), "there is nothing to wait for any more")
	})
}

// stopper is a handler that calls Stop with its own context at an event of topic "stop".
type stopper struct {
	*witness
	hub      *Hub
	returned chan error
}

func newStopper(hub *Hub) *stopper { return &stopper{newWitness(), hub, make(chan error, 1)} }

func (s *stopper) handle(ctx context.Context, ev *Event) {
	if ev.Topic == "stop" {
		s.returned <- s.hub.Stop(ctx)
	}
	s.witness.handle(ctx, ev)
}

func TestStopFromWithinAHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		s := newStopper(hub)
		_, err := hub.Consumer(context.Background(), s.handle, &ConsumerConfig{Topics: []string{"stop"}})
		require.NoError(t, err)
		startHub(t, hub)
		// In one piece: else Stop might come before the second event, in which it is called again.
		server.Send(&pgproto3.NotificationResponse{PID: 7, Channel: "stop", Payload: "e1"}, &pgproto3.NotificationResponse{PID: 7, Channel: "stop", Payload: "e2"})
		require.NoError(t, outcome(t, s.returned))
		require.NoError(t, outcome(t, s.returned))
		require.NoError(t, hub.Stop(within(t)))
		s.expect(t, lineConnect, lineSubscribe("stop"), "stop e1", "stop e2", lineStop)
	})
}

func TestStopFromWithinTwoHandlers(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		first, second := newStopper(hub), newStopper(hub)
		third := newGate()
		for _, handler := range []Handler{first.handle, second.handle, third.handle} {
			_, err := hub.Consumer(context.Background(), handler, &ConsumerConfig{Topics: []string{"stop"}})
			require.NoError(t, err)
		}
		startHub(t, hub)
		server.Notify("stop", "e")
		synctest.Wait()
		require.Empty(t, first.returned, "the third handler is waited for")
		require.Empty(t, second.returned)
		close(third.open)
		require.NoError(t, outcome(t, first.returned))
		require.NoError(t, outcome(t, second.returned))
		require.NoError(t, hub.Stop(within(t)))
		for _, w := range []*witness{first.witness, second.witness, third.witness} {
			w.expect(t, lineConnect, lineSubscribe("stop"), "stop e", lineStop)
		}
	})
}

// A context that outlives its handler excuses nobody.
func TestStopWithTheContextOfAHandlerThatIsGone(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		kept := make(chan context.Context, 10)
		c, err := hub.Consumer(context.Background(), func(ctx context.Context, _ *Event) { kept <- ctx }, nil)
		require.NoError(t, err)
		g := newGate()
		_, err = hub.Consumer(context.Background(), g.handle, nil)
		require.NoError(t, err)
		startHub(t, hub)
		ctx := context.WithoutCancel(<-kept)
		require.NoError(t, c.Drain(within(t)))
		returned := background(func() error { return hub.Stop(ctx) })
		synctest.Wait()
		require.Empty(t, returned, "the other handler is waited for")
		close(g.open)
		require.NoError(t, outcome(t, returned))
	})
}

// The reporter of trouble may take it as a reason to stop, and wait for that.
func TestStopFromWithinOnError(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		returned := make(chan error, 1)
		var hub *Hub
		hub = fakeHub(t, server, Config{OnError: func(error) { returned <- hub.Stop(context.Background()) }})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "undecodable")
		require.NoError(t, outcome(t, returned))
		w.expect(t, lineConnect, lineSubscribe("a"), lineStop)
	})
}

func TestStopCutsOff(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		heeds := newWitness()
		_, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
			heeds.handle(ctx, ev)
			if ev.Topic == "a" {
				<-ctx.Done()
			}
		}, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		ignores := newGate()
		_, err = hub.Consumer(context.Background(), ignores.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		<-ignores.entered
		server.Notify("a", "e1")
		server.Notify("a", "e2")
		synctest.Wait()

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = hub.Stop(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "pghub: stop: cut off: context deadline exceeded")
		synctest.Wait()
		require.Equal(t, []string{lineConnect, lineSubscribe("a"), "a e1", lineStop}, heeds.lines())
		require.Equal(t, StateStopping, hub.State(), "a handler still runs")
		require.ErrorIs(t, hub.Stop(ctx), context.DeadlineExceeded)

		close(ignores.open)
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{lineConnect, lineStop}, ignores.lines())
		require.Equal(t, StateStopped, hub.State())
	})
}

// Handlers that are inside the hub when it stops come out of it, and see stop.
func TestStopWhileHandlersCallTheHub(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		calls := map[string]func(ctx context.Context, c *Consumer) error{
			"Subscribe": func(ctx context.Context, c *Consumer) error { return c.Subscribe(ctx, "b") },
			"Consumer": func(context.Context, *Consumer) error {
				_, err := hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Topics: []string{"b"}})
				return err
			},
			"Events": func(ctx context.Context, _ *Consumer) (err error) {
				for ev := range hub.Events(ctx, "b") {
					err = ev.Advisory.Err
				}
				return err
			},
			"Start": func(ctx context.Context, _ *Consumer) error {
				<-ctx.Done() // until it is cut off
				return hub.Start(ctx)
			},
		}
		returned := make(chan error, len(calls))
		var witnesses []*witness
		for _, call := range calls {
			w := newWitness()
			witnesses = append(witnesses, w)
			var c *Consumer
			c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
				w.handle(ctx, ev)
				if ev.Advisory.Action == ActionDisconnect {
					returned <- call(ctx, c)
				}
			}, nil)
			require.NoError(t, err)
		}
		startHub(t, hub)
		server.RefuseDials(errRefusedByTest)
		server.Kill()
		synctest.Wait()
		require.Empty(t, returned)
		require.ErrorIs(t, hub.Stop(soon(t)), context.DeadlineExceeded)
		for range calls {
			require.ErrorIs(t, outcome(t, returned), ErrStopped)
		}
		require.NoError(t, hub.Stop(within(t)))
		for _, w := range witnesses {
			w.expect(t, lineConnect, lineDisconnect, lineStop)
		}
	})
}

// Everybody who waits for a hub that stops gets an answer.
func TestStopAnswersThoseWhoWait(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		_, c := watch(t, hub, "a")
		startHub(t, hub)
		server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		synctest.Wait()
		unsubscribed := background(func() error { return c.Unsubscribe(context.Background(), "a") })
		synctest.Wait()
		server.Freeze(true)
		require.ErrorIs(t, hub.Stop(soon(t)), context.DeadlineExceeded)
		require.ErrorIs(t, outcome(t, subscribed), ErrStopped)
		require.NoError(t, outcome(t, unsubscribed))
	})
}
