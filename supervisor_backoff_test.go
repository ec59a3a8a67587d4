package pghub

import (
	"math"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestBackoffIsFullJitterBetweenItsBounds(t *testing.T) {
	const lowest, highest = 100 * time.Millisecond, 30 * time.Second
	for failures := range 100 {
		ceiling := highest
		if failures < 9 {
			ceiling = lowest << failures
		}
		shortest, longest := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			wait := backoff(failures, lowest, highest)
			shortest, longest = min(shortest, wait), max(longest, wait)
		}
		require.GreaterOrEqual(t, shortest, time.Duration(0))
		require.Less(t, shortest, ceiling/10, "after %d failures", failures)
		require.LessOrEqual(t, longest, ceiling, "after %d failures", failures)
		require.Greater(t, longest, ceiling*9/10, "after %d failures", failures)
	}
}

// Shifted often enough, a duration becomes a small number again.
func TestBackoffDoesNotOverflow(t *testing.T) {
	lowest := time.Duration(1<<34 + 1)
	var longest time.Duration
	for range 1000 {
		longest = max(longest, backoff(30, lowest, math.MaxInt64))
	}
	require.Greater(t, longest, time.Hour)
}

func TestAttemptsToConnectBackOff(t *testing.T) {
	const lowest, highest, attempts = 10 * time.Millisecond, 5 * time.Second, 300
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.RefuseDials(errRefusedByTest)
		hub := fakeHub(t, server, Config{ReconnectMin: lowest, ReconnectMax: highest})
		runInBackground(t, hub)
		passing(t, time.Second, func() bool { return len(server.Dials()) > attempts })

		var waits []time.Duration
		dials := server.Dials()
		for i := range attempts {
			ceiling := highest
			if i < 9 {
				ceiling = lowest << i
			}
			waits = append(waits, dials[i+1].Sub(dials[i]))
			require.LessOrEqual(t, waits[i], ceiling, "before attempt %d", i+1)
		}
		settled := waits[9:]
		require.Less(t, slices.Min(settled), highest/4)
		require.Greater(t, slices.Max(settled), highest*3/4)
		require.Equal(t, StateWaiting, hub.State())
		require.EqualValues(t, len(server.Dials()), hub.Stats().Attempts)
		require.ErrorIs(t, hub.Stats().LastError, syscall.ECONNREFUSED)
	})
}

// A server that accepts connections and drops them at once must not be stormed: the count of failures starts anew only
// after a session has been listening for ReconnectMax.
func TestBackoffStartsAnewAfterALongSessionOnly(t *testing.T) {
	const lowest, highest = 10 * time.Millisecond, 10 * time.Second
	flap := func(t *testing.T, session time.Duration) (longestWait time.Duration) {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{ReconnectMin: lowest, ReconnectMax: highest})
			startHub(t, hub)
			for range 40 {
				time.Sleep(session)
				server.Kill()
				lost := time.Now()
				passing(t, time.Millisecond, func() bool { return hub.State() == StateListening })
				longestWait = max(longestWait, time.Since(lost))
			}
		})
		return longestWait
	}
	require.LessOrEqual(t, flap(t, highest), lowest+time.Millisecond)
	require.Greater(t, flap(t, highest-time.Millisecond), highest/2)
}
