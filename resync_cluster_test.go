package pghub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// clustered makes a hub that is one process of several.
func clustered(t *testing.T, dsn string, limit int, onError func(error)) *Hub {
	t.Helper()
	return realHub(t, Config{Pool: pgtest.Pool(t, dsn), Name: "cluster", ResyncClusterLimit: limit, ResyncLimit: 2, OnError: onError})
}

// clusterConsumer has a hub have a consumer whose Resync says that it runs, and waits until it may end.
func clusterConsumer(t *testing.T, hub *Hub, runs func() (end <-chan struct{})) *Consumer {
	t.Helper()
	c, err := hub.Consumer(within(t), func(context.Context, *Event) {}, &ConsumerConfig{
		Topics: []string{"a"}, ResyncFirst: true, Resync: func(ctx context.Context, _ Gap) error {
			select {
			case <-runs():
			case <-ctx.Done():
			}
			return ctx.Err()
		},
	})
	require.NoError(t, err)
	return c
}

// Of six processes with two consumers each, two call Resync at a time, for both of their consumers.
func TestResyncClusterLimit(t *testing.T) {
	dsn := pgtest.Database(t)
	const processes, limit = 6, 2
	var mu sync.Mutex
	running, most := make(map[*Hub]int), 0
	began, end := make(chan *Hub, 2*processes), make(chan struct{})
	var hubs []*Hub
	for range processes {
		hub := clustered(t, dsn, limit, nil)
		hubs = append(hubs, hub)
		for range 2 {
			clusterConsumer(t, hub, func() <-chan struct{} {
				mu.Lock()
				running[hub]++
				most = max(most, len(running))
				mu.Unlock()
				began <- hub
				ended := make(chan struct{})
				go func() {
					<-end
					mu.Lock()
					if running[hub]--; running[hub] == 0 {
						delete(running, hub)
					}
					mu.Unlock()
					close(ended)
				}()
				return ended
			})
		}
		startHub(t, hub)
	}
	for range processes * 2 {
		<-began // it would not, if nobody gave a place back
		end <- struct{}{}
	}
	require.LessOrEqual(t, most, limit)
	require.Positive(t, most)
	observer := pgtest.Conn(t, dsn)
	require.Eventually(t, func() bool {
		var locks int
		err := observer.QueryRow(within(t), `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory'`).Scan(&locks)
		own := slices.IndexFunc(hubs, func(hub *Hub) bool { return len(hub.resyncs) > 0 })
		return err == nil && locks == 0 && own < 0
	}, patience, patience/1000, "all places are given back, those of the cluster and those of each hub")
}

// Who waits for a place of the cluster leaves when the consumer is closed; and where no place can be had Resync is called all the same.
func TestResyncClusterLimitEnds(t *testing.T) {
	dsn := pgtest.Database(t)
	began, end := make(chan struct{}, 1), make(chan struct{})
	first := clustered(t, dsn, 1, nil)
	clusterConsumer(t, first, func() <-chan struct{} { began <- struct{}{}; return end })
	startHub(t, first)
	<-began

	second := clustered(t, dsn, 1, nil)
	waits := clusterConsumer(t, second, func() <-chan struct{} { t.Error("beyond the limit"); return end })
	startHub(t, second)
	observer := pgtest.Conn(t, dsn)
	require.Eventually(t, func() bool {
		var waiting bool
		err := observer.QueryRow(within(t), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`).Scan(&waiting)
		return err == nil && waiting
	}, patience, patience/1000)
	require.NoError(t, waits.Close())
	<-waits.Done()
	close(end)
	require.Empty(t, second.resyncs, "its place in the hub is given back")

	errs := newErrorLog()
	third := clustered(t, dsn, 1, errs.onError)
	startHub(t, third)
	third.cfg.Pool.Close()
	clusterConsumer(t, third, func() <-chan struct{} { began <- struct{}{}; return end })
	<-began
	errs.await(t, mentionsLimit)
}

// lockWaits tells of each wait for a place of the cluster whether it has a deadline.
type lockWaits chan bool

func (w lockWaits) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.Contains(query.SQL, "pg_advisory_xact_lock(") {
		_, limited := ctx.Deadline()
		w <- limited
	}
	return ctx
}

func (lockWaits) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A place of the cluster is waited for as long as it takes: PublishTimeout is for a connection of the pool.
func TestResyncClusterLimitIsWaitedFor(t *testing.T) {
	dsn := pgtest.Database(t)
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	waits := make(lockWaits, 1)
	cfg.ConnConfig.Tracer = waits
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	gate := func() *clusterGate {
		return newClusterGate(&Config{Pool: pool, PublishTimeout: patience, ResyncClusterLimit: 1})
	}
	first, second := gate(), gate()
	require.NoError(t, first.enter(ctx))
	entered := background(func() error { return second.enter(ctx) })
	limited := <-waits
	first.leave()
	require.NoError(t, outcome(t, entered))
	second.leave()
	require.False(t, limited)
}

func mentionsLimit(err error) bool {
	return err != nil && strings.Contains(err.Error(), "the limit of the cluster is not kept")
}

func TestResyncClusterLimitNeedsAPool(t *testing.T) {
	poolOf := func(conns string) *pgxpool.Pool {
		cfg, err := pgxpool.ParseConfig("host=127.0.0.1 pool_max_conns=" + conns)
		require.NoError(t, err)
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	_, err := New(Config{Pool: poolOf("2"), ResyncClusterLimit: 1})
	require.NoError(t, err)
	pool := poolOf("1")
	for _, cfg := range []Config{{Pool: pool, ResyncClusterLimit: 1}, {PollOnly: true, ResyncClusterLimit: 1}, {Pool: pool, ResyncClusterLimit: -1}} {
		_, err = New(cfg)
		require.ErrorContains(t, err, "ResyncClusterLimit")
	}
}
