package pghub

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// A check succeeds, alone, many at once and inside a handler, and leaves nothing behind.
func TestCheck(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub := realHub(t, Config{Pool: pool})
	_, err := hub.Check(within(t))
	require.ErrorIs(t, err, ErrNotStarted)
	inHandler := make(chan error, 1)
	_, err = hub.Consumer(within(t), func(ctx context.Context, ev *Event) {
		if ev.Advisory == nil {
			_, err := hub.Check(ctx)
			inHandler <- err
		}
	}, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	startHub(t, hub)

	latency, err := hub.Check(within(t))
	require.NoError(t, err)
	require.Positive(t, latency)
	require.Less(t, latency, patience)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := hub.Check(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	require.NoError(t, outcome(t, inHandler))

	st := hub.Stats()
	require.Equal(t, 1, st.Consumers)
	require.Equal(t, 1, st.Topics)
	require.NoError(t, hub.Stop(within(t)))
	_, err = hub.Check(within(t))
	require.ErrorIs(t, err, ErrStopped)
}

// Both connections work, and yet nothing gets through: the check says so, and need not wait to find out.
func TestCheckNoticesAnotherDatabase(t *testing.T) {
	elsewhere, err := pgx.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, pgtest.Database(t)), ListenConfig: elsewhere, ProbeInterval: time.Hour, ProbeTimeout: time.Hour})
	startHub(t, hub)
	_, err = hub.Check(within(t))
	require.ErrorIs(t, err, ErrNotHeard)
	require.NoError(t, within(t).Err())
}

// During an outage it says what the listener is doing, at once.
func TestCheckDuringAnOutage(t *testing.T) {
	dsn := pgtest.Database(t)
	const never = 10_000 * time.Hour // the backoff is a random part of it
	errs := newErrorLog()
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn), ReconnectMin: never, ReconnectMax: never, OnError: errs.onError})
	startHub(t, hub)
	_, err := hub.cfg.Pool.Exec(within(t), "SELECT pg_terminate_backend($1)", hub.Stats().PID)
	require.NoError(t, err)
	errs.await(t, func(error) bool { return true })
	_, err = hub.Check(within(t))
	require.ErrorIs(t, err, ErrNotConnected)
	require.ErrorContains(t, err, "57P01") // why the connection was lost
}

// A server that has stopped answering is not ready, and the check ends with its context.
func TestCheckOfASilentServer(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ProbeInterval: -1})
		_, err := hub.Check(within(t))
		require.ErrorIs(t, err, ErrNotStarted)
		startHub(t, hub)
		_, err = hub.Check(within(t))
		require.ErrorIs(t, err, ErrNoPool)
		hub.publisher = newPublisher(hub.cut, nil, time.Second, hub.report) // which is not asked
		server.Freeze(true)
		began := time.Now()
		_, err = hub.Check(within(t))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, defaultProbeTimeout+defaultPublishTimeout, time.Since(began))
		server.Freeze(false)
		hub.publisher = nil
	})
}

// Where publishing fails the check says why, and leaves no consumer behind.
func TestCheckWithoutAPoolThatWorks(t *testing.T) {
	dsn := pgtest.Database(t)
	listen, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	pool := pgtest.Pool(t, dsn)
	hub := realHub(t, Config{Pool: pool, ListenConfig: listen})
	startHub(t, hub)
	pool.Close()
	_, err = hub.Check(within(t))
	require.ErrorIs(t, err, ErrNotConnected)
	require.Eventually(t, func() bool { return hub.Stats().Consumers == 0 }, patience, time.Millisecond)
}
