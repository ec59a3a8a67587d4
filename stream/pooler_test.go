package stream_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// All but the connections that listen may go through PgBouncer in transaction mode, where two statements in a row may have two sessions.
func TestThroughATransactionPooler(t *testing.T) {
	dsn := pgtest.Database(t)
	pooled := pgtest.PgBouncer(t, "transaction", dsn)
	pgtest.CheckLeaks(t)
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, dsn)))
	listen, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	l := &lab{t: t, dsn: pooled, pool: pgtest.Pool(t, pooled)}
	l.do(`CREATE TABLE ledger (n bigint PRIMARY KEY)`)
	join := func() {
		t.Helper()
		l.hub, err = pghub.New(pghub.Config{Pool: l.pool, ListenConfig: listen, ReconnectMax: 100 * time.Millisecond, OnError: func(err error) { t.Log(err) }})
		require.NoError(t, err)
		hub := l.hub
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(t, hub.Stop(ctx))
		})
		l.s, err = stream.Open(t.Context(), hub, stream.Config{Lease: time.Second, Live: []string{"a"}})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
	}
	join()
	work := func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
		}
		return nil
	}
	saw, live := newSeen(), newSeen()
	_, err = l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	_, err = l.s.DurableTx(t.Context(), "ledger", work, &stream.DurableConfig{Batch: 10})
	require.NoError(t, err)
	_, err = l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			live.add(ev)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)

	l.publish("a", upTo(50)...)
	require.NoError(t, pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error { return l.s.PublishTx(t.Context(), tx, "a", []int64{51}, 51) }))
	saw.await(t, numbers("a", 1, 51)...)
	live.await(t, numbers("a", 1, 51)...)
	done := func() []int64 { return one[[]int64](l, `SELECT coalesce(array_agg(n ORDER BY n), '{}') FROM ledger`) }
	all := func(n int) (list []int64) {
		for _, i := range upTo(n) {
			list = append(list, int64(i))
		}
		return list
	}
	eventually(t, "the ledger", func() bool { return slices.Equal(done(), all(51)) })
	require.Len(t, collect(t, l, stream.Earliest), 51)

	// Another process takes over where this one stops.
	require.NoError(t, l.hub.Stop(t.Context()))
	join()
	again := newSeen()
	_, err = l.s.Durable(t.Context(), "d", again.handle, nil)
	require.NoError(t, err)
	_, err = l.s.DurableTx(t.Context(), "ledger", work, nil)
	require.NoError(t, err)
	l.publish("a", 52)
	again.await(t, "a 52")
	eventually(t, "the ledger", func() bool { return slices.Equal(done(), all(52)) })
}
