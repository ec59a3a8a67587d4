package sql

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Whoever may publish may write events, and nothing that a reader could not read.
func TestOnlyEventsGetIntoTheStream(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	const all = `SELECT pghub.capture_all($1::text[], $2::text[], $3::text[], $4::text[])`
	none := []*string{nil}
	for _, topic := range []string{"", "a23456789012345678901234567890123456789012345678901234567890123x"} {
		b.fails("22023", "a topic has 1 to 63", all, []string{topic}, []string{"{1}"}, none, none)
		b.fails("22023", "a topic has 1 to 63", `SELECT pghub.capture($1, '{1}', '1', NULL)`, topic)
	}
	b.fails("22023", "topic NULL has 0 bytes", all, none, []string{"{1}"}, none, none)
	for _, key := range []string{"{NULL}", "{1,NULL}", "{{1},{2}}"} {
		b.fails("22023", "a key is a list of integers, without NULL", all, []string{"a", "a"}, []string{"{1}", key}, []string{"1", "1"}, []*string{nil, nil})
		b.fails("22023", "a key is a list of integers, without NULL", `SELECT pghub.capture('a', $1::text::bigint[], '1', NULL)`, key)
	}
	for _, text := range []string{"", "x", "{", `{"a":1} 2`} {
		const code, message = "22P02", "invalid input syntax for type json"
		b.fails(code, message, all, []string{"a"}, []string{"{1}"}, []string{text}, none)
		b.fails(code, message, all, []string{"a"}, []string{"{1}"}, none, []string{text})
		b.fails(code, message, `SELECT pghub.capture('a', '{1}', $1, NULL)`, text)
		b.fails(code, message, `SELECT pghub.capture('a', '{1}', NULL, $1)`, text)
		b.fails(code, message, `SELECT pghub.publish('a', 1, $1::text)`, text)
		b.fails(code, message, `SELECT pghub.publish('a', '1', $1::text)`, text)
	}
	b.fails("22023", "topic NULL", all, []string{"a"}, []string{"{1}"}, []string{"1", "2"}, none)

	// What is right is written as it is.
	value := ` { "b" : "\u0000\ud800", "a":1 ,"a": 1.0}`
	b.do(all, []string{"a", "a"}, []string{"{1,2}", "{}"}, []*string{&value, nil}, []*string{nil, &value})
	b.do(`SELECT pghub.publish('a', 3, $1::text)`, value)
	b.tick()
	events, _ := b.page(start, wholeTick, wholeTick, nil)
	require.Len(t, events, 3)
	require.Equal(t, []int64{1, 2}, events[0].Key)
	require.Equal(t, value, *events[0].Value)
	require.Nil(t, events[1].Key, "as pghub.publish writes it")
	require.Equal(t, value, *events[1].Headers)
	require.Equal(t, value, *events[2].Value)
}

// A tick shows what has ended. A transaction that has written something has not: its own snapshot would say that it has.
func TestNoTicksInATransactionThatHasWritten(t *testing.T) {
	b := setUp(t)
	other := pgtest.Conn(t, b.dsn)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	b.do(`SELECT pghub.attach('c', 'x', '1 hour', NULL, 'earliest')`)
	for _, sql := range []string{`SELECT pghub.tick()`, `SELECT pghub.locate('latest')`, `SELECT pghub.seek('c', 'latest')`, `SELECT pghub.attach('d', 'x', '1 hour', NULL, 'latest')`} {
		publishOn(t, other, "1")
		b.do(`BEGIN`)
		publishOn(t, b.conn, "2")
		b.fails("25001", "not in a transaction that has written", sql)
		b.do(`ROLLBACK`)
	}
	b.do(`BEGIN`)
	publishOn(t, b.conn, "2")
	b.do(`SELECT pghub.seek('c', 'earliest')`)
	b.do(`COMMIT`)
	b.tick()
	require.Equal(t, []string{"1", "1", "1", "1", "2"}, b.streamed(start))
}

// A position is any of numbers that there are. What is none is named.
func TestTextOfAPosition(t *testing.T) {
	b := setUp(t)
	const last = "9223372036854775807"
	for text, want := range map[string]string{
		"0":                                  "0 " + last + " " + last,
		last:                                 last + " " + last + " " + last,
		last + "." + last + ".1":             last + " " + last + " 1",
		"0000000000000000001.1.000000000000": "1 1 0",
	} {
		require.Equal(t, want, one[string](b, `SELECT concat_ws(' ', tick, txn, id) FROM pghub.locate('`+text+`')`))
	}
	for _, text := range []string{"", "x", "1.2", "1.2.3.4", "1..3", "-1", "9223372036854775808", "1.9223372036854775808.1", "1.1.9999999999999999999", "10000000000000000000"} {
		b.fails("22023", "'"+text+"' is no position", `SELECT pghub.locate('`+text+`')`)
	}
}

// Seek goes behind all that is committed, and whoever calls it may leave the transaction open: nobody waits for that, since the
// sequencer makes the tick.
func TestSeekKeepsNobodyFromReading(t *testing.T) {
	b := setUp(t)
	b.do(`SELECT pghub.attach('c', 'x', '1 hour', NULL, 'earliest'), pghub.lead('sequencer', 'x', '1 hour')`)
	publishOn(t, b.conn, "1")
	operator := pgtest.Conn(t, b.dsn)
	tx, err := operator.Begin(t.Context())
	require.NoError(t, err)
	sought := make(chan error, 1)
	go func() {
		_, err := tx.Exec(context.Background(), `SELECT pghub.seek('c', 'latest')`)
		sought <- err
	}()
	b.do(`SET lock_timeout = '20s'`)
	require.Eventually(t, func() bool {
		return one[bool](b, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND (wait_event = 'PgSleep' OR state <> 'active'))`, operator.PgConn().PID())
	}, time.Minute, time.Millisecond, "it waits for the sequencer")
	tick := b.tick()
	require.NotNil(t, tick, "the sequencer makes it")
	require.NoError(t, <-sought)
	publishOn(t, b.conn, "2")
	require.NotNil(t, b.tick(), "with the operator's transaction still open")
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, *tick, one[int64](b, `SELECT tick FROM pghub.consumers`))

	// Nobody makes ticks: seek does, and an own event that is written already comes.
	b.do(`DELETE FROM pghub.leases`)
	publishOn(t, b.conn, "3")
	b.do(`SELECT pghub.seek('c', 'latest')`)
	require.Empty(t, b.streamed(one[int64](b, `SELECT tick FROM pghub.consumers`)))
	b.do(`BEGIN`)
	publishOn(t, b.conn, "4")
	b.do(`SELECT pghub.seek('c', 'latest')`)
	b.do(`COMMIT`)
	b.tick()
	require.Equal(t, []string{"4"}, b.streamed(one[int64](b, `SELECT tick FROM pghub.consumers`)))
}

// Who takes a consumer while somebody forgets it, makes it anew.
func TestAttachWhileSomebodyForgets(t *testing.T) {
	b := setUp(t)
	publishOn(t, b.conn, "1")
	b.tick()
	b.do(`SELECT pghub.attach('c', 'one', '1 hour', NULL, 'latest')`)
	tx, err := b.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pghub.forget('c')`)
	require.NoError(t, err)
	other := pgtest.Conn(t, b.dsn)
	type answer struct {
		token, tick *int64
		err         error
	}
	attached := make(chan answer, 1)
	go func() {
		var a answer
		a.err = other.QueryRow(context.Background(), `SELECT token, tick FROM pghub.attach('c', 'two', '1 hour', NULL, 'earliest')`).Scan(&a.token, &a.tick)
		attached <- a
	}()
	b.awaitLock(other)
	require.NoError(t, tx.Commit(t.Context()))
	a := <-attached
	require.NoError(t, a.err)
	require.NotNil(t, a.token)
	require.Equal(t, one[int64](b, `SELECT tick FROM pghub.locate('earliest')`), *a.tick)
	require.Equal(t, "two", one[string](b, `SELECT owner FROM pghub.consumers`))
}

// awaitLock returns when a connection waits for a lock.
func (b *bench) awaitLock(conn *pgx.Conn) {
	b.t.Helper()
	looker := pgtest.Conn(b.t, b.dsn)
	require.Eventually(b.t, func() bool {
		var waits bool
		err := looker.QueryRow(b.t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)`, conn.PgConn().PID()).Scan(&waits)
		return err == nil && waits
	}, time.Minute, time.Millisecond, "it waits")
}

// A server that was set back does not give a token again that somebody still has.
func TestATokenIsGivenOnce(t *testing.T) {
	b := setUp(t)
	const attach = `SELECT token FROM pghub.attach('c', 'one', '1 hour', NULL, 'earliest')`
	token := one[int64](b, attach)
	next := func(what string) {
		t.Helper()
		now := one[int64](b, `SELECT token FROM pghub.consumers`)
		require.Greater(t, now, token, what)
		token = now
	}
	b.do(attach)
	next("it grows")
	b.do(`UPDATE pghub.consumers SET token = 1`) // a failover lost commits
	b.do(attach)
	next("attach")
	b.do(`UPDATE pghub.consumers SET token = 1`)
	b.do(`SELECT pghub.seek('c', 'earliest')`)
	next("seek")
	b.do(`SELECT pghub.forget('c')`)
	b.do(attach)
	next("a new one of the same name")
	b.do(`UPDATE pghub.consumers SET token = token + 1000000000`) // the clock was set back
	token += 1000000000
	b.do(attach)
	next("attach, by the clock of the past")
	b.do(`SELECT pghub.seek('c', 'earliest')`)
	next("seek, by the clock of the past")
}
