package sql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// The switch works while somebody holds the table, until it is undone, and is told to who listens.
func TestMute(t *testing.T) {
	b := setUp(t, "people", "other", "orders")
	b.do(people + `CREATE TABLE orders (id int PRIMARY KEY); SELECT pghub.watch('people'), pghub.watch('people', name => 'two', topic => 'other', level => 'statement'), pghub.watch('orders', level => 'change')`)
	writer := pgtest.Conn(t, b.dsn)
	_, err := writer.Exec(t.Context(), `BEGIN; LOCK TABLE people, orders IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	write := func() int {
		t.Helper()
		_, err := writer.Exec(t.Context(), `INSERT INTO people VALUES (1, 'a'); DELETE FROM people; INSERT INTO orders VALUES (1); DELETE FROM orders; COMMIT; BEGIN; LOCK TABLE people, orders IN ACCESS EXCLUSIVE MODE`)
		require.NoError(t, err)
		return len(b.heard())
	}
	require.Equal(t, 6, write())
	for _, c := range []struct {
		arguments string
		watches   int
		events    int
	}{{`topic => 'other'`, 1, 4}, {`relation => 'people'`, 2, 2}, {``, 3, 0}} {
		for range 2 {
			require.Equal(t, c.watches, one[int](b, `SELECT pghub.mute(`+c.arguments+`)`))
			told := b.heard()
			require.Len(t, told, c.watches)
			require.Equal(t, "mute", parse(t, told[0]).Op)
		}
		require.Equal(t, c.watches, one[int](b, `SELECT count(*) FROM pghub.watches WHERE muted`))
		require.Equal(t, c.watches, one[int](b, `SELECT muted FROM pghub.health`))
		require.Equal(t, c.events, write())
		require.Equal(t, c.watches, one[int](b, `SELECT pghub.unmute(`+c.arguments+`)`))
		require.Equal(t, "unmute", parse(t, b.heard()[0]).Op)
		require.Equal(t, 6, write())
	}

	// It outlives a change of the watch, and is there for a new one.
	b.do(`SELECT pghub.mute('later')`)
	_, err = writer.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	b.do(`SELECT pghub.watch('people', topic => 'later'), pghub.unwatch('people', 'two')`)
	require.False(t, one[bool](b, `SELECT pghub.watch('people', topic => 'later')`))
	require.True(t, one[bool](b, `SELECT muted FROM pghub.watches WHERE topic = 'later'`))
	b.do(`SELECT pghub.mute(), pghub.unmute()`)
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.mutes`))
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches WHERE muted`))

	role := b.role()
	b.do(`SET ROLE ` + role)
	b.fails("42501", "permission denied for function mute", `SELECT pghub.mute()`)
	b.do(`RESET ROLE`)
}

// One row says how it all is.
func TestHealth(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people'); ALTER TABLE people DISABLE TRIGGER USER`)
	require.Equal(t, []int64{1, 1, 0, 0, int64(latest(t))}, one[[]int64](b, `SELECT ARRAY[watches, disabled, muted, warnings, version] FROM pghub.health`))
	require.Less(t, one[float64](b, `SELECT queue_usage FROM pghub.health`), 0.5)
}

// Who waits to commit his events waits for one lock of the whole cluster: the view counts them.
func TestHealthCountsWhoWaitsToNotify(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	dsn := server.DSN()
	b := &bench{t: t, dsn: dsn, conn: pgtest.Conn(t, dsn)}
	require.NoError(t, Install(t.Context(), b.conn))
	b.do(`SET synchronous_commit = local; CREATE TABLE written (id int)`)
	b.do(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`) // a commit then takes its lock and stays
	b.do(`SELECT pg_reload_conf()`)
	b.until(`SELECT current_setting('synchronous_standby_names') = 'nobody'`)
	done := make(chan error, 2)
	for range 2 {
		conn := pgtest.Conn(t, dsn)
		go func() {
			_, err := conn.Exec(t.Context(), `INSERT INTO written VALUES (1); SELECT pg_notify('t', 'x')`)
			done <- err
		}()
	}
	b.until(`SELECT waiting_to_notify = 1 AND longest_wait > '0' FROM pghub.health`)
	b.do(`ALTER SYSTEM RESET synchronous_standby_names`)
	b.do(`SELECT pg_reload_conf()`)
	for range 2 {
		require.NoError(t, <-done)
	}
}
