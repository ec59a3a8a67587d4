package sql

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// behind returns the values of all events behind a tick, over as many pages as it takes.
func (b *bench) behind(tick int64) (values []string) {
	b.t.Helper()
	at := logged{Tick: tick, Txn: wholeTick, ID: wholeTick}
	for state := "more"; state == "more"; state = *at.Value {
		var events []logged
		events, at = b.page(at.Tick, at.Txn, at.ID, nil)
		for _, ev := range events {
			values = append(values, *ev.Value)
		}
	}
	require.Equal(b.t, "end", *at.Value)
	return values
}

// pretend changes the numbers of transactions in a part of the stream, as if another server had made them.
func (b *bench) pretend(table string, by int) {
	b.t.Helper()
	switch table {
	case "log":
		b.do(`UPDATE pghub.log SET xid = (xid::text::bigint + $1)::text::xid8`, by)
	case "ticks":
		b.do(`UPDATE pghub.ticks SET snapshot = concat(pg_snapshot_xmin(snapshot)::text::bigint + $1::bigint, ':', pg_snapshot_xmax(snapshot)::text::bigint + $1::bigint, ':')::pg_snapshot`, by)
	}
}

// What is written after a restore, and before the first tick, has numbers that the other server's transactions had too.
func TestEventsBeforeTheFirstTickAfterARestore(t *testing.T) {
	for name, restore := range map[string]func(b *bench){
		"one after the other": func(b *bench) { b.pretend("log", 60); b.pretend("ticks", 60) },
		"several at a time":   func(b *bench) { b.pretend("ticks", 60); b.pretend("log", 60); b.do(`REINDEX TABLE pghub.log_0`) },
		"at once":             func(b *bench) { b.do(`BEGIN`); b.pretend("ticks", 60); b.pretend("log", 60); b.do(`COMMIT`) },
	} {
		for _, passed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, passed), func(t *testing.T) {
				b := setUp(t)
				start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
				var want []string
				var last *int64
				for i := range 40 {
					want = append(want, fmt.Sprint(i))
					publishOn(t, b.conn, want[i])
					last = b.tick()
				}
				publishOn(t, b.conn, "100") // no tick has it
				restore(b)
				publishOn(t, b.conn, "101")
				publishOn(t, b.conn, "102")
				if passed { // no process has the stream open
					for range 100 {
						b.do(`SELECT pg_current_xact_id()`)
					}
				}
				for range 2 {
					b.tick()
				}
				publishOn(t, b.conn, "103")
				b.tick()
				require.Equal(t, []string{"100", "101", "102", "103"}, b.behind(*last))
				require.Equal(t, append(want, "100", "101", "102", "103"), b.behind(start))
				require.Equal(t, 1, one[int](b, `SELECT count(*) FROM pghub.ticks WHERE NOT large AND events = 40`), "it is taken over once")
			})
		}
	}
}

// A transaction that is at work while a log is taken over publishes after that, with a number from before it.
func TestATransactionThatOutlivesTheTakeover(t *testing.T) {
	b := setUp(t)
	publishOn(t, b.conn, "1")
	last := b.tick()
	b.pretend("log", 1000)
	b.pretend("ticks", 1000)
	other := pgtest.Conn(t, b.dsn)
	require.NoError(t, pgx.BeginFunc(t.Context(), other, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT pg_current_xact_id()`)
		require.NoError(t, err)
		require.Nil(t, b.tick(), "it takes the log over")
		publishOn(t, tx, "2")
		return nil
	}))
	b.tick()
	require.Equal(t, []string{"2"}, b.behind(*last))
}

// Nothing else is taken for a restore.
func TestWhatIsNoRestore(t *testing.T) {
	b := setUp(t)
	ticks := func() int { return one[int](b, `SELECT count(*) FROM pghub.ticks WHERE large`) }
	start := one[int64](b, "SELECT tick FROM pghub.locate('earliest')")
	other := pgtest.Conn(t, b.dsn)
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	for range 3 {
		publishOn(t, b.conn, "1")
		require.NotNil(t, b.tick(), "the first one too")
		b.age("37 hours")
		require.True(t, b.rotate())
	}
	publishOn(t, tx, "2")
	require.NoError(t, tx.Commit(t.Context()))
	b.do(`BEGIN; SAVEPOINT s`)
	require.NotNil(t, b.tick())
	b.do(`COMMIT`)
	b.do(`VACUUM FULL pghub.ticks_0, pghub.ticks_1, pghub.ticks_2, pghub.log_0, pghub.log_1, pghub.log_2`)
	publishOn(t, b.conn, "3")
	require.NotNil(t, b.tick())
	require.Zero(t, ticks())
	b.do(`BEGIN; SELECT pg_current_xact_id()`)
	b.fails("25001", "not in a transaction that has written", `SELECT pghub.rotate()`)
	b.do(`ROLLBACK`)
	require.Equal(t, []string{"1", "2", "3"}, b.behind(one[int64](b, `SELECT max(tick) FROM pghub.ticks WHERE events = 2 AND tick > $1`, start)))
}
