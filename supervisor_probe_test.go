package pghub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestAnIdleConnectionIsProbed(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		for n := range 6 {
			require.Equal(t, n, probes(server))
			time.Sleep(defaultProbeInterval - time.Nanosecond)
			synctest.Wait()
			require.Equal(t, n, probes(server))
			time.Sleep(time.Nanosecond)
			synctest.Wait()
		}

		for range 100 { // what arrives is a sign of life
			time.Sleep(defaultProbeInterval - time.Second)
			server.Notify("a", "e")
			synctest.Wait()
		}
		require.Equal(t, 6, probes(server))
		time.Sleep(defaultProbeInterval)
		synctest.Wait()
		require.Equal(t, 7, probes(server))
		require.Len(t, w.rest(), 100)
	})
}

func TestASilentServerIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		time.Sleep(time.Second)
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
		heard := time.Now()

		server.Freeze(true)
		lost := w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		require.Equal(t, defaultProbeInterval+defaultProbeTimeout, time.Since(heard))
		require.ErrorIs(t, lost.Advisory.Err, ErrProbe)
		require.Equal(t, heard, lost.Advisory.Gap.Since)
		errs.await(t, func(err error) bool { return errors.Is(err, ErrProbe) })

		server.Freeze(false)
		back := w.take(t)
		require.Equal(t, lineReconnect, lineOf(back))
		require.Equal(t, heard, back.Advisory.Gap.Since)
		require.False(t, back.Advisory.Gap.Until.Before(heard.Add(defaultProbeInterval+defaultProbeTimeout)))
		require.ErrorIs(t, back.Advisory.Gap.Err, ErrProbe)
	})
}

func TestAnUnansweredListenIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		asked := time.Now()
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect)
		require.Equal(t, defaultProbeTimeout, time.Since(asked))
		release()
		w.expect(t, lineReconnect, lineSubscribe("b"))
		require.NoError(t, outcome(t, subscribed))
	})
}

// A server that is slow to answer, and yet sends notifications, is alive.
func TestABusyServerIsNotGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		for range 100 {
			time.Sleep(defaultProbeTimeout - time.Second)
			server.Notify("a", "e")
		}
		synctest.Wait()
		release()
		require.NoError(t, outcome(t, subscribed))
		require.NotContains(t, w.lines(), lineDisconnect)
	})
}

func TestProbesCanBeTurnedOff(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ProbeInterval: -1})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		server.Freeze(true)
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		time.Sleep(24 * time.Hour)
		require.Zero(t, probes(server))
		server.Freeze(false)
		require.NoError(t, outcome(t, subscribed))
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
	})
}

func TestAHungAttemptToConnectIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.HangDials(true)
		server.Kill()
		w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect)
		time.Sleep(defaultReconnectMin) // until the second attempt
		require.Len(t, server.Dials(), 2)
		time.Sleep(connectTimeout + 2*defaultReconnectMin) // until the third
		require.Len(t, server.Dials(), 3)
		require.Equal(t, StateConnecting, hub.State())
		require.ErrorIs(t, hub.Stats().LastError, context.DeadlineExceeded)
		server.HangDials(false)
		w.expect(t, lineReconnect)
	})
}
