package pghub

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestStopInEveryStateOfTheSupervisor(t *testing.T) {
	const outage, noOutage = true, false
	for name, test := range map[string]struct {
		trouble func(server *fakepg.Server)
		during  State
		outage  bool
	}{
		"listening":                {func(*fakepg.Server) {}, StateListening, noOutage},
		"waiting":                  {func(s *fakepg.Server) { s.RefuseDials(errRefusedByTest); s.Kill() }, StateWaiting, outage},
		"connecting":               {func(s *fakepg.Server) { s.HangDials(true); s.Kill() }, StateConnecting, outage},
		"not answered for LISTEN":  {func(s *fakepg.Server) { s.Hold(mentions("LISTEN")); s.Kill() }, StateConnecting, outage},
		"not answered at start-up": {func(s *fakepg.Server) { s.Hold(mentions("pg_is_in_recovery")); s.Kill() }, StateConnecting, outage},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{ReconnectMin: time.Hour, ReconnectMax: time.Hour, ProbeInterval: -1})
				w, _ := watch(t, hub, "a")
				startHub(t, hub)
				test.trouble(server)
				passing(t, time.Minute, func() bool { return hub.State() == test.during })
				began := time.Now()
				require.NoError(t, hub.Stop(within(t)))
				require.Less(t, time.Since(began), time.Second)
				expected := []string{lineConnect, lineSubscribe("a"), lineStop}
				if test.outage {
					expected = slices.Insert(expected, 2, lineDisconnect)
				}
				require.Equal(t, expected, w.lines())
				require.Equal(t, StateStopped, hub.State())
			})
		})
	}
}

// The server closes its end as soon as it is told goodbye: no loss, and so no disconnect.
func TestStopIsNoLossOfTheConnection(t *testing.T) {
	for range 100 {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{})
			w, _ := watch(t, hub)
			startHub(t, hub)
			require.NoError(t, hub.Stop(within(t)))
			require.Equal(t, []string{lineConnect, lineStop}, w.lines())
		})
	}
}

// Stop waits for what was committed before, but not for a server that says nothing more: that is a loss.
func TestStopWithASilentServer(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Freeze(true)
		server.Notify("a", "e")
		began := time.Now()
		require.NoError(t, hub.Stop(context.Background()))
		require.LessOrEqual(t, time.Since(began), defaultProbeTimeout+terminateWriteTimeout)
		require.Equal(t, []string{lineDisconnect, lineStop}, w.rest())
	})
}

// While Stop waits for the server, what it has announced the end of takes nobody in.
func TestNothingNewWhileStopping(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		watch(t, hub, "a")
		_, c := watch(t, hub)
		startHub(t, hub)
		server.Freeze(true)
		stopped := background(func() error { return hub.Stop(context.Background()) })
		synctest.Wait()
		require.Empty(t, stopped)
		require.Equal(t, StateStopping, hub.State())
		require.ErrorIs(t, c.Subscribe(within(t), "a"), ErrStopped)
		_, err := hub.Consumer(context.Background(), newWitness().handle, nil)
		require.ErrorIs(t, err, ErrStopped)
		server.Freeze(false)
		require.NoError(t, outcome(t, stopped))
	})
}

// What was committed before Stop is on its way: the server sends it before it answers.
func TestStopWaitsForWhatTheServerHasToSay(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Freeze(true)
		for i := range 100 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		stopped := background(func() error { return hub.Stop(context.Background()) })
		time.Sleep(time.Second)
		server.Freeze(false)
		require.NoError(t, outcome(t, stopped))
		w.requireNumbers(t, "a", 100)
		require.Equal(t, lineStop, w.lines()[102])
	})
}
