package sql

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// streamed returns the values of all events behind a tick, in their order.
func (b *bench) streamed(tick int64) (values []string) {
	b.t.Helper()
	events, end := b.page(tick, wholeTick, wholeTick, nil)
	require.Equal(b.t, "end", *end.Value)
	for _, ev := range events {
		values = append(values, *ev.Value)
	}
	return values
}

func publishOn(t *testing.T, conn interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, value string,
) {
	t.Helper()
	var none *string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT nullif(pghub.publish('a', 1, $1::text)::text, '')`, value).Scan(&none))
}

// Transactions come whole, and one that wrote after it saw another comes after it, whatever their numbers are.
func TestTransactionsAreWholeAndInTheirOrder(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	first, second := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
	a, err := first.Begin(t.Context())
	require.NoError(t, err)
	publishOn(t, a, "1") // has the smaller number of a transaction, and the smaller id
	publishOn(t, second, "2")
	publishOn(t, a, "3")
	require.NoError(t, a.Commit(t.Context()))
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"2", "1", "3"}, b.streamed(start))
	require.Equal(t, []string{"2", "1", "3"}, b.streamed(start), "the same at each replay")

	// Filtered too: the order is that of the whole transactions.
	require.NoError(t, pgx.BeginFunc(t.Context(), first, func(tx pgx.Tx) error {
		publishOn(t, tx, "4")
		publishOn(t, second, "5")
		_, err := tx.Exec(t.Context(), `SELECT pghub.publish('b')`)
		return err
	}))
	b.tick()
	events, _ := b.page(start, wholeTick, wholeTick, []string{"a"})
	require.Equal(t, "5", *events[3].Value)
	require.Equal(t, "4", *events[4].Value)
}

// Sessions share one row of ids.
func TestIdsGrowAcrossSessions(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	other := pgtest.Conn(t, b.dsn)
	publishOn(t, b.conn, "1")
	publishOn(t, other, "2")
	publishOn(t, b.conn, "3")
	b.tick()
	require.Equal(t, []string{"1", "2", "3"}, b.streamed(start))
}

// A transaction that is still at work when a tick is made comes with a later one, and keeps nobody else's events back.
func TestOpenTransactionsComeLater(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	other := pgtest.Conn(t, b.dsn)
	open, err := other.Begin(t.Context())
	require.NoError(t, err)
	publishOn(t, open, "1")
	publishOn(t, b.conn, "2")
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"2"}, b.streamed(start))
	publishOn(t, b.conn, "3")
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"2", "3"}, b.streamed(start))
	require.NoError(t, open.Commit(t.Context()))
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"2", "3", "1"}, b.streamed(start))
	require.Nil(t, b.tick())
}

// Of two that make ticks, one waits for the other, and takes its snapshot then.
func TestTicksWaitForEachOther(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	holder, second := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	publishOn(t, b.conn, "1")
	_, err = tx.Exec(t.Context(), `SELECT pghub.tick()`)
	require.NoError(t, err)
	ticked := make(chan error, 1)
	go func() {
		_, err := second.Exec(context.Background(), `SELECT pghub.tick()`)
		ticked <- err
	}()
	require.Eventually(t, func() bool {
		return one[bool](b, `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)`, second.PgConn().PID())
	}, time.Minute, 2*time.Millisecond, "it waits")
	publishOn(t, b.conn, "2")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-ticked)
	require.Equal(t, []string{"1", "2"}, b.streamed(start))
	require.Nil(t, b.tick(), "the second one has seen what was committed while it waited")
}

func TestTicksNeedReadCommitted(t *testing.T) {
	b := setUp(t)
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		for _, sql := range []string{`SELECT pghub.tick()`, `SELECT pghub.rotate()`, `SELECT * FROM pghub.page(0, 0, 0, NULL)`} {
			b.do("BEGIN ISOLATION LEVEL " + level)
			b.fails("25000", "needs READ COMMITTED, not "+level, sql)
			b.do("ROLLBACK")
		}
	}
}

// Numbers of ticks are times, so that a server that was set back does not give one twice.
func TestNumbersOfTicks(t *testing.T) {
	b := setUp(t)
	before := one[int64](b, `SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint`)
	publishOn(t, b.conn, "1")
	tick := b.tick()
	require.NotNil(t, tick)
	require.GreaterOrEqual(t, *tick, before)
	b.do(`UPDATE pghub.ticks SET tick = tick + 1000000`) // the clock was set back
	publishOn(t, b.conn, "2")
	require.Equal(t, *tick+1000001, *b.tick())
}

// What a tick shows has been flushed, whatever the writers and the sequencer's session have set.
func TestTicksAreFlushed(t *testing.T) {
	b := setUp(t)
	b.do(`SET synchronous_commit = off`)
	for range 30 {
		publishOn(t, b.conn, "1")
		require.True(t, one[bool](b, `SELECT pg_current_wal_insert_lsn() IS NOT NULL`))
		written := one[string](b, `SELECT pg_current_wal_insert_lsn()::text`)
		require.NotNil(t, b.tick())
		require.True(t, one[bool](b, `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, written))
	}
}

// A prepared transaction is one that is still at work.
func TestPreparedTransactions(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	b := &bench{t: t, dsn: server.DSN()}
	b.conn = pgtest.Conn(t, b.dsn)
	require.NoError(t, Install(t.Context(), b.conn))
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	b.do("BEGIN")
	publishOn(t, b.conn, "1")
	b.do("PREPARE TRANSACTION 'p'")
	publishOn(t, b.conn, "2")
	require.NotNil(t, b.tick())
	b.do("COMMIT PREPARED 'p'")
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"2", "1"}, b.streamed(start))
}
