package stream_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// With synchronous_commit off a crash takes back what was committed last: the work of a DurableTx, and its position with it. What the
// process remembers is ahead of that, and is not what it goes on from.
func TestACrashThatLosesCommits(t *testing.T) {
	pgtest.CheckLeaks(t)
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"synchronous_commit": "off", "autovacuum": "off"}})
	l := &lab{t: t, dsn: server.DSN()}
	conn := pgtest.Conn(t, l.dsn)
	require.NoError(t, sql.Install(t.Context(), conn))
	_, err := conn.Exec(t.Context(), `CREATE TABLE ledger (n bigint PRIMARY KEY)`)
	require.NoError(t, err)
	l.join(stream.Config{Lease: forEver})
	work := func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
		}
		return nil
	}
	d, err := l.s.DurableTx(t.Context(), "ledger", work, nil)
	require.NoError(t, err)
	done := func() (numbers []int64) {
		_ = l.pool.QueryRow(t.Context(), `SELECT array_agg(n ORDER BY n) FROM ledger`).Scan(&numbers)
		return numbers
	}

	// What writes the log by itself is stopped. A tick is flushed, the work that follows it is not.
	rows, err := l.pool.Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE backend_type IN ('walwriter', 'background writer')`)
	require.NoError(t, err)
	writers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Len(t, writers, 2)
	for _, pid := range writers {
		require.NoError(t, server.Signal(pid, pgtest.Freeze))
		t.Cleanup(func() { _ = server.Signal(pid, pgtest.Thaw) }) // it is gone with the crash
	}
	l.publish("a", 1)
	eventually(t, "it is done", func() bool { return len(done()) == 1 && d.Stats().Delivered == 1 })
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context()))
	l.pool.Reset() // what it has is lost; the next transaction does not fail
	eventually(t, "it is published", func() bool { return l.s.Publish(t.Context(), "a", []int64{2}, 2) == nil })
	eventually(t, "both are done", func() bool { return slices.Equal(done(), []int64{1, 2}) })
	eventually(t, "the first one twice, since the crash took it back", func() bool { return d.Stats().Delivered == 3 })
}
