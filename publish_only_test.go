package pghub

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// A publisher publishes in every way that a hub does, from the first call on, and never listens.
func TestPublisher(t *testing.T) {
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	w, _ := watch(t, hub, "a", "parcels")
	startHub(t, hub)

	pool := pgtest.Pool(t, dsn)
	p, err := NewPublisher(Config{Pool: pool, Name: "quiet"})
	require.NoError(t, err)
	require.NoError(t, p.Notify(within(t), "a", []int64{1}, nil))
	require.NoError(t, p.NotifyPayload(within(t), "a", "e2"))
	require.NoError(t, parcels.Notify(within(t), p, []int64{3}, parcel{}))
	require.NoError(t, pgx.BeginFunc(within(t), pool, func(tx pgx.Tx) error {
		return p.NotifyTx(within(t), tx, "a", []int64{4}, nil)
	}))
	db := openSQL(t, dsn, pgx.QueryExecModeExec, nil)
	require.NoError(t, p.NotifySQLTx(within(t), db, "a", []int64{5}, nil))
	require.NoError(t, parcels.NotifySQLTx(within(t), p, db, []int64{6}, parcel{}))
	w.await(t, "a e1")
	w.expect(t, "a e2", `parcels e3:{"item":"","count":0}`, "a e4", "a e5", `parcels e6:{"item":"","count":0}`)

	var listeners int
	require.NoError(t, pool.QueryRow(within(t), `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pghub%' AND datname = current_database()`).Scan(&listeners))
	require.Equal(t, 1, listeners, "that of the hub")
	st := p.Stats()
	require.EqualValues(t, 3, st.Published)
	require.Equal(t, StateIdle, st.State)

	require.NoError(t, p.Stop(within(t)))
	require.NoError(t, p.Stop(within(t)))
	require.ErrorIs(t, p.Notify(within(t), "a", nil, nil), ErrStopped)
	require.NoError(t, pool.Ping(within(t)), "the pool is the caller's")
}

// Calls from many goroutines get an answer each, and no goroutine is left.
func TestPublisherOfMany(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.CheckLeaks(t)
	p, err := NewPublisher(Config{Pool: pool})
	require.NoError(t, err)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			if err := p.Notify(context.Background(), "a", []int64{int64(i)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.NoError(t, p.Stop(within(t)))
	st := p.Stats()
	require.EqualValues(t, 100, st.Published)
	require.Equal(t, StateStopped, st.State)
}

func TestPublisherNamesWhatIsWrong(t *testing.T) {
	_, err := NewPublisher(Config{})
	require.ErrorContains(t, err, "needs a Pool")
	listen, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	_, err = NewPublisher(Config{ListenConfig: listen})
	require.ErrorContains(t, err, "needs a Pool")
	_, err = NewPublisher(Config{Pool: unitPool(), Name: "\x00"})
	require.ErrorContains(t, err, "Config.Name")
}
