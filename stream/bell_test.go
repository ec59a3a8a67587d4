package stream

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

// A writer may come at any moment while the sequencer falls asleep: what it writes is seen, or it rings. The lease is so long
// that nothing else wakes the sequencer.
func TestNoEventIsSleptOver(t *testing.T) {
	pgtest.CheckLeaks(t)
	quiet := quietTime
	quietTime = 2 * time.Millisecond
	t.Cleanup(func() { quietTime = quiet })
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	s, err := Open(t.Context(), hub, Config{Lease: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })

	came := make(chan int64, 1)
	_, err = s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		came <- ev.Key[0]
		return nil
	}, nil)
	require.NoError(t, err)
	slept := s.link.sleeps.Load()
	for n := int64(0); n < 60; n++ {
		time.Sleep(time.Duration(rand.N(12 * time.Millisecond))) // the random pauses are what is tested: writers come at any moment of falling asleep
		require.NoError(t, s.Publish(t.Context(), "a", []int64{n}, nil))
		select {
		case got := <-came:
			require.Equal(t, n, got)
		case <-time.After(time.Minute):
			require.FailNow(t, "an event was slept over", "event %d", n)
		}
	}
	t.Logf("%d sleeps", s.link.sleeps.Load()-slept)
	require.Eventually(t, func() bool { return s.link.sleeps.Load() > slept }, time.Minute, time.Millisecond)
}
