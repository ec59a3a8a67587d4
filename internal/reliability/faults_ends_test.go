package reliability

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// scriptedPool is a pool of connections to a scripted server.
func scriptedPool(t *testing.T, s *fakepg.Server) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig("")
	require.NoError(t, err)
	cfg.ConnConfig = s.Config()
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func newHub(t *testing.T, cfg pghub.Config) *pghub.Hub {
	t.Helper()
	hub, err := pghub.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopWithin(t, hub, time.Hour)) })
	return hub
}

func consume(t *testing.T, hub *pghub.Hub, handler pghub.Handler, topics ...string) *pghub.Consumer {
	t.Helper()
	c, err := hub.Consumer(context.Background(), handler, &pghub.ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	return c
}

// TestFaultFailedStartCutsOff: a Start that fails leaves no handler waiting for the end of its context.
func TestFaultFailedStartCutsOff(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub := newHub(t, pghub.Config{ListenConfig: s.Config()})
		d := newDiary()
		c := consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
			d.handle(ctx, ev)
			<-ctx.Done()
		}, "t")
		s.RefuseDials(errors.New("refused"))
		began := time.Now()
		require.ErrorIs(t, hub.Start(t.Context()), pghub.ErrNotConnected)
		require.Zero(t, time.Since(began), "it is the end of the context that the handler waited for")
		<-c.Done()
		require.Equal(t, []string{"stop"}, d.all())
	})
}

// TestFaultStopOfAnotherHub: the handler of one hub that stops another one has no part in that, and waits as anybody does.
func TestFaultStopOfAnotherHub(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		busy, other := newHub(t, pghub.Config{ListenConfig: s.Config()}), newHub(t, pghub.Config{ListenConfig: s.Config()})
		enter, leave := make(chan struct{}), make(chan struct{})
		consume(t, busy, newDiary().blockAt("t=e", enter, leave), "t")
		returned := make(chan error, 1)
		consume(t, other, func(ctx context.Context, ev *pghub.Event) {
			if ev.Topic == "stop" {
				returned <- busy.Stop(ctx)
			}
		}, "stop")
		require.NoError(t, busy.Start(t.Context()))
		require.NoError(t, other.Start(t.Context()))
		s.Notify("t", "e")
		<-enter
		s.Notify("stop", "e")
		synctest.Wait()
		require.Empty(t, returned, "a handler of the hub that is stopped has not returned")
		close(leave)
		require.NoError(t, <-returned)
		require.Equal(t, pghub.StateStopped, busy.State())
		require.Equal(t, pghub.StateListening, other.State())
	})
}

// TestFaultDrainOfAnotherConsumer: a handler that drains another consumer waits for it, as anybody does.
func TestFaultDrainOfAnotherConsumer(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub := newHub(t, pghub.Config{ListenConfig: s.Config()})
		enter, leave := make(chan struct{}), make(chan struct{})
		d := newDiary()
		busy := consume(t, hub, d.blockAt("t=e1", enter, leave), "t")
		returned := make(chan error, 1)
		consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
			if ev.Topic == "drain" {
				returned <- busy.Drain(ctx)
			}
		}, "drain")
		require.NoError(t, hub.Start(t.Context()))
		s.Notify("t", "e1")
		<-enter
		s.Notify("t", "e2")
		s.Notify("drain", "e")
		synctest.Wait()
		require.Empty(t, returned)
		close(leave)
		require.NoError(t, <-returned)
		require.Equal(t, []string{"connect", "subscribe t", "t=e1", "t=e2", "close"}, d.all(), "all of it, before Drain has returned")
	})
}

// TestFaultConfirmedEventsArriveBeforeStop: what Notify confirms while the hub stops reaches the consumers of the same hub.
func TestFaultConfirmedEventsArriveBeforeStop(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub := newHub(t, pghub.Config{Pool: scriptedPool(t, s)})
		d := newDiary()
		consume(t, hub, d.handle, "t")
		require.NoError(t, hub.Start(t.Context()))
		d.expect(t, "connect", "subscribe t")
		isNotify := func(sql string) bool { return strings.Contains(sql, "pg_notify") }
		release := s.Hold(isNotify)
		confirmed := make(chan error, 1)
		go func() { confirmed <- hub.Notify(t.Context(), "t", []int64{1}, nil) }()
		_, err := s.WaitQuery(t.Context(), isNotify)
		require.NoError(t, err)
		stopped := make(chan error, 1)
		go func() { stopped <- stopWithin(t, hub, time.Hour) }()
		synctest.Wait()
		require.Empty(t, confirmed)
		require.Empty(t, stopped)
		release()
		require.NoError(t, <-confirmed)
		require.NoError(t, <-stopped)
		d.expect(t, "t=e1", "stop")
	})
}

// TestFaultGoexitCostsNoTime: a handler that ends its goroutine takes no worker from the others. Time passes in a bubble
// only while everybody waits: here nobody ever has to.
func TestFaultGoexitCostsNoTime(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub := newHub(t, pghub.Config{ListenConfig: s.Config()})
		served := make(chan struct{})
		consume(t, hub, func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				defer func() { served <- struct{}{} }()
				runtime.Goexit()
			}
		}, "t")
		require.NoError(t, hub.Start(t.Context()))
		began := time.Now()
		for range 100 * runtime.GOMAXPROCS(0) {
			s.Notify("t", "e")
			<-served
		}
		require.Zero(t, time.Since(began))
	})
}
