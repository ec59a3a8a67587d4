package stream_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// A dump that is restored into another server, whose transaction numbers are smaller, goes on where it was: nothing comes twice
// that was done in the transaction of its position, and nothing is lost.
func TestDumpAndRestore(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.do(`CREATE TABLE ledger (n bigint PRIMARY KEY)`)
	work := func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
		}
		return nil
	}
	l.do(`DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`) // more than the other server has made
	d, err := l.s.DurableTx(t.Context(), "ledger", work, nil)
	require.NoError(t, err)
	l.publish("a", upTo(50)...)
	eventually(t, "half of it is done", func() bool { return one[int](l, `SELECT count(*) FROM ledger`) == 50 })
	require.NoError(t, d.Stop(t.Context()))
	l.publish("a", 51, 52, 53)
	require.NoError(t, l.hub.Stop(t.Context()))
	l.do(`SELECT pghub.tick()`)
	l.do(`SELECT pghub.publish('a', 54, '54')`) // no tick has it
	dump := pgtest.Dump(t, l.dsn, "--no-owner")

	server := pgtest.Private(t, pgtest.Options{})
	pgtest.Restore(t, server.DSN(), dump)
	l.dsn = server.DSN()
	conn := pgtest.Conn(t, l.dsn)
	require.NoError(t, sql.Install(t.Context(), conn))
	var smaller bool
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT pg_snapshot_xmax(pg_current_snapshot()) < (SELECT max(pg_snapshot_xmax(snapshot)::text::bigint) FROM pghub.ticks)::text::xid8`).Scan(&smaller))
	require.True(t, smaller, "else this test shows nothing")
	l.join(stream.Config{})
	d, err = l.s.DurableTx(t.Context(), "ledger", work, &stream.DurableConfig{MaxAttempts: 1})
	require.NoError(t, err)
	l.publish("a", 55, 56)
	eventually(t, "all is done", func() bool { return one[int](l, `SELECT count(*) FROM ledger`) == 56 })
	require.Zero(t, d.Stats().Failed, "nothing comes twice")
	require.Zero(t, d.Stats().Resyncs)
}
