package sql

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// touched returns how many rows of the ticks, and entries of their indexes, a statement reads. It is rolled back.
func (b *bench) touched(sql string, args ...any) (n int) {
	b.t.Helper()
	read := func() int {
		return one[int](b, `SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class WHERE relnamespace = 'pghub'::regnamespace AND relname LIKE 'ticks%'`)
	}
	b.do(`BEGIN`)
	before := read()
	b.do(sql, args...)
	n = read() - before
	b.do(`ROLLBACK`)
	return n
}

// A stream that is busy makes millions of ticks within the retention. Nothing looks through all of them, least of all under a lock.
func TestTicksAreFoundByTheirTime(t *testing.T) {
	b := setUp(t)
	b.do(`SELECT pghub.attach('c', 'x', '0 s', NULL, 'earliest')`)
	b.do(`INSERT INTO pghub.ticks_0 SELECT ceil(extract(epoch FROM h) * 1000)::bigint, h, '3:3:', 0, 0, false FROM generate_series(now() - interval '40 hours', now() - interval '1 hour', '5 s') AS h`)
	old := time.Now().Add(-39 * time.Hour)
	require.Greater(t, one[int](b, `SELECT count(*) FROM pghub.ticks`), 20000)
	require.Less(t, b.touched(`SELECT pghub.rotate()`), 100)
	require.Less(t, b.touched(`SELECT pghub.locate($1::timestamptz::text)`, old), 100)
	require.Less(t, b.touched(`SELECT pghub.replay('c', now(), until => $1)`, old), 100)
	require.Nil(t, b.tick()) // after a rotation that was rolled back
	require.True(t, b.rotate(), "it was time")

	// A time is behind all that is older.
	at := one[int64](b, `SELECT tick FROM pghub.locate($1::timestamptz::text)`, old)
	require.True(t, one[bool](b, `SELECT $1 = (SELECT max(tick) FROM pghub.ticks WHERE at < $2)`, at, old))
	require.Equal(t, one[int64](b, `SELECT min(tick) FROM pghub.ticks`), one[int64](b, `SELECT tick FROM pghub.locate('-infinity')`))
	require.Equal(t, one[int64](b, `SELECT max(tick) FROM pghub.ticks`), one[int64](b, `SELECT tick FROM pghub.locate('infinity')`))
	b.do(`UPDATE pghub.ticks SET tick = tick + 1000000000`) // the clock was set back
	require.Equal(t, at+1000000000, one[int64](b, `SELECT tick FROM pghub.locate($1::timestamptz::text)`, old))
}

// The number of a tick is never below its time: ticks of a time are looked for from there on.
func TestTheNumberOfATickIsNotBelowItsTime(t *testing.T) {
	b := setUp(t)
	check := func(what string) {
		t.Helper()
		require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.ticks WHERE tick < extract(epoch FROM at) * 1000`), what)
	}
	check("the first")
	for range 50 {
		publishOn(t, b.conn, "1")
		require.NotNil(t, b.tick())
	}
	check("ticks")
	b.do(`UPDATE pghub.ticks SET at = at - interval '40 hours', tick = tick - 40 * 3600 * 1000`)
	require.True(t, b.rotate())
	check("that of a rotation")
	b.pretend("log", 1000)
	b.pretend("ticks", 1000)
	b.do(`UPDATE pghub.ticks SET at = at - interval '40 hours', tick = tick - 40 * 3600 * 1000`)
	require.Nil(t, b.tick())
	check("that of a takeover")
	b.do(`DELETE FROM pghub.ticks`)
	require.Nil(t, b.tick())
	check("that of a schema without data")
}
