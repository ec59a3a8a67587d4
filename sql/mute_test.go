package sql

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// The switch works while somebody holds the table, until it is undone, and is told to who listens.
func TestMute(t *testing.T) {
	b := setUp(t, "people", "other", "orders")
	const locked = `BEGIN; LOCK TABLE people, orders IN ACCESS EXCLUSIVE MODE`
	b.do(people + `CREATE TABLE orders (id int PRIMARY KEY); SELECT pghub.watch('people'), pghub.watch('people', name => 'two', topic => 'other', level => 'statement'), pghub.watch('orders', level => 'change')`)
	writer := pgtest.Conn(t, b.dsn)
	_, err := writer.Exec(t.Context(), locked)
	require.NoError(t, err)
	write := func() int {
		t.Helper()
		_, err := writer.Exec(t.Context(), `INSERT INTO people VALUES (1, 'a'); DELETE FROM people; INSERT INTO orders VALUES (1); DELETE FROM orders; COMMIT; `+locked)
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

		// Watches speak again while somebody holds the table. That there was a gap is announced when he is gone.
		before := len(b.heard())
		require.Zero(t, before)
		unmuted := unmute(b, c.arguments)
		b.until(`SELECT count(*) = 0 FROM pghub.watches WHERE muted`)
		_, err = writer.Exec(t.Context(), `COMMIT`)
		require.NoError(t, err)
		require.Equal(t, c.watches, <-unmuted)
		told := b.heard()
		require.Len(t, told, c.watches)
		require.Equal(t, []string{"gap", "unmute"}, []string{parse(t, told[0]).Pghub, parse(t, told[0]).Op})
		_, err = writer.Exec(t.Context(), locked)
		require.NoError(t, err)
		require.Equal(t, 6, write())
	}

	// It outlives a change of the watch, and is there for a new one.
	b.do(`SELECT pghub.mute('later')`)
	_, err = writer.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	b.do(`SELECT pghub.watch('people', topic => 'later'), pghub.unwatch('people', 'two')`)
	require.False(t, one[bool](b, `SELECT pghub.watch('people', topic => 'later')`))
	require.True(t, one[bool](b, `SELECT muted FROM pghub.watches WHERE topic = 'later'`))
	b.do(`SELECT pghub.mute()`)
	b.do(`CALL pghub.unmute()`)
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.mutes`))
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches WHERE muted`))

	role := b.role()
	b.do(`SET ROLE ` + role)
	b.fails("42501", "permission denied for function mute", `SELECT pghub.mute()`)
	b.fails("42501", "permission denied for procedure unmute", `CALL pghub.unmute()`)
	b.do(`RESET ROLE`)
}

// unmute runs on a connection of its own, and returns how many watches it reached, or -1.
func unmute(b *bench, arguments string) <-chan int {
	conn := pgtest.Conn(b.t, b.dsn)
	done := make(chan int, 1)
	go func() {
		n := -1
		if err := conn.QueryRow(b.t.Context(), `CALL pghub.unmute(`+arguments+`)`).Scan(&n); err != nil {
			b.t.Log(err)
			n = -1
		}
		done <- n
	}()
	return done
}

// waitsOrHasEnded tells that an unmute has come to wait for somebody, or has nothing more to do.
const waitsOrHasEnded = `SELECT NOT EXISTS (SELECT FROM pghub.mutes) OR EXISTS (
	SELECT FROM pg_stat_activity WHERE query LIKE 'CALL pghub.unmute%' AND datname = current_database() AND wait_event = 'PgSleep')`

// Who wrote silently may commit after the watch has been made to speak. The gap is announced behind that, so that whoever reads
// the table then misses nothing.
func TestUnmuteWaitsForSilentWriters(t *testing.T) {
	for name, c := range map[string]struct{ level, table string }{"row": {"row", "parts"}, "statement": {"statement", "parts"}, "into a partition": {"row", "parts_1"}} {
		t.Run(name, func(t *testing.T) {
			b := setUp(t, "parts", "other")
			b.do(`CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts DEFAULT; CREATE TABLE other (id int PRIMARY KEY);
				SELECT pghub.watch('parts', level => '` + c.level + `'), pghub.watch('other')`)
			b.do(`SELECT pghub.mute('parts')`)
			b.heard()
			silent, elsewhere, later := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
			_, err := silent.Exec(t.Context(), `BEGIN; INSERT INTO `+c.table+` VALUES (1)`)
			require.NoError(t, err)
			_, err = elsewhere.Exec(t.Context(), `BEGIN; SELECT FROM parts; INSERT INTO other VALUES (1)`) // nobody to wait for
			require.NoError(t, err)
			unmuted := unmute(b, `'parts'`)
			b.until(`SELECT NOT muted FROM pghub.watches WHERE topic = 'parts'`)
			b.until(waitsOrHasEnded)
			require.Equal(t, "insert", b.change(`INSERT INTO parts VALUES (10)`).Op, "and no gap")
			_, err = later.Exec(t.Context(), `BEGIN; INSERT INTO parts VALUES (11)`) // who comes later speaks, and need not be waited for
			require.NoError(t, err)
			require.Equal(t, 1, one[int](b, `SELECT count(*) FROM pghub.mutes WHERE ended IS NOT NULL`))
			_, err = silent.Exec(t.Context(), `COMMIT`)
			require.NoError(t, err)
			b.until(`SELECT NOT EXISTS (SELECT FROM pghub.mutes)`)
			require.Equal(t, 1, <-unmuted)
			gap := b.heard()
			require.Len(t, gap, 1)
			require.Equal(t, "gap", parse(t, gap[0]).Pghub)
			_, err = later.Exec(t.Context(), `COMMIT`)
			require.NoError(t, err)
			require.Len(t, b.heard(), 1)
		})
	}
}

// A transaction that wrote silently and was prepared is waited for too.
func TestUnmuteWaitsForPreparedTransactions(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	b := &bench{t: t, dsn: server.DSN(), conn: pgtest.Conn(t, server.DSN()), ear: pgtest.Conn(t, server.DSN())}
	require.NoError(t, Install(t.Context(), b.conn))
	_, err := b.ear.Exec(t.Context(), `LISTEN people; LISTEN mark`)
	require.NoError(t, err)
	b.do(people + `SELECT pghub.watch('people'), pghub.mute('people')`)
	silent := pgtest.Conn(t, b.dsn)
	_, err = silent.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (1, 'a'); PREPARE TRANSACTION 'early'`)
	require.NoError(t, err)
	_, err = silent.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (2, 'a')`)
	require.NoError(t, err)
	b.heard()
	unmuted := unmute(b, `'people'`)
	b.until(`SELECT NOT muted FROM pghub.watches`)
	_, err = silent.Exec(t.Context(), `PREPARE TRANSACTION 'late'`)
	require.NoError(t, err)
	b.until(waitsOrHasEnded)
	for i, name := range []string{"early", "late"} {
		require.Empty(t, b.heard())
		require.Equal(t, 2-i, one[int](b, `SELECT cardinality(pghub.writers('people', NULL, '{}'))`))
		_, err = silent.Exec(t.Context(), `COMMIT PREPARED '`+name+`'`)
		require.NoError(t, err)
	}
	require.Equal(t, 1, <-unmuted)
	require.Equal(t, "gap", parse(t, b.heard()[0]).Pghub)
}

// An unmute that is interrupted while it waits has yet to announce the gap: the next one does, and a mute in between goes on with it.
func TestUnmuteInterrupted(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people'), pghub.mute('people')`)
	began := one[time.Time](b, `SELECT since FROM pghub.mutes`)
	silent := pgtest.Conn(t, b.dsn)
	_, err := silent.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (1, 'a')`)
	require.NoError(t, err)
	b.heard()
	for range 2 {
		b.do(`SET statement_timeout = '3s'`)
		b.fails("57014", "statement timeout", `CALL pghub.unmute('people')`)
		b.do(`RESET statement_timeout`)
		require.False(t, one[bool](b, `SELECT muted FROM pghub.watches`))
		b.do(`SELECT pghub.mute('people')`)
		require.True(t, one[bool](b, `SELECT muted FROM pghub.watches`))
		require.Equal(t, began, one[time.Time](b, `SELECT since FROM pghub.mutes WHERE ended IS NULL`))
	}
	b.do(`SET statement_timeout = '300ms'`)
	b.fails("57014", "statement timeout", `CALL pghub.unmute()`)
	b.do(`RESET statement_timeout`)
	_, err = silent.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	b.heard()
	b.do(`CALL pghub.unmute()`)
	gap := parse(t, b.heard()[0])
	require.Equal(t, "gap", gap.Pghub)
	require.WithinDuration(t, began, gap.Since, 0)
	require.False(t, gap.Until.Before(gap.Since))
	b.do(`CALL pghub.unmute()`)
	require.Empty(t, b.heard(), "there is nothing to announce")
	b.fails("2D000", "invalid transaction termination", `BEGIN; CALL pghub.unmute()`)
	b.do(`ROLLBACK`)
}

// What is muted by something else too stays so, and its gap goes on.
func TestUnmuteOneOfTwo(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people'), pghub.mute('people'), pghub.mute(relation => 'people')`)
	b.heard()
	b.do(`CALL pghub.unmute('people')`)
	require.True(t, one[bool](b, `SELECT muted FROM pghub.watches`))
	require.Empty(t, b.after(`INSERT INTO people VALUES (1, 'a')`))
	b.do(`CALL pghub.unmute(relation => 'people')`)
	require.Equal(t, "gap", parse(t, b.heard()[0]).Pghub)
}

// To a consumer it is a gap: Resync is called behind it, and reads what was not announced.
func TestUnmuteIsAGap(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people')`)
	pool := pgtest.Pool(t, b.dsn)
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	stream := make(chan string, 100)
	_, err = hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			change, err := pghub.Decode[pghub.Change](ev)
			stream <- fmt.Sprint(change.Op, ev.Key, err)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"people"}, Resync: func(ctx context.Context, gap pghub.Gap) error {
		var ids []int
		err := pool.QueryRow(ctx, `SELECT array_agg(id ORDER BY id) FROM people`).Scan(&ids)
		stream <- fmt.Sprint("resync ", ids, err, errors.Is(gap.Err, pghub.ErrMuted), !gap.Since.IsZero() && !gap.Until.Before(gap.Since))
		return nil
	}})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	defer func() { require.NoError(t, hub.Stop(context.WithoutCancel(t.Context()))) }()
	next := func() string {
		select {
		case s := <-stream:
			return s
		case <-time.After(time.Minute):
			return "nothing"
		}
	}
	b.do(`INSERT INTO people VALUES (1, 'a')`)
	b.do(`SELECT pghub.mute('people')`)
	b.do(`INSERT INTO people VALUES (2, 'a')`)
	b.do(`CALL pghub.unmute('people')`)
	b.do(`INSERT INTO people VALUES (3, 'a')`)
	require.Equal(t, "insert[1] <nil>", next())
	require.Equal(t, "mute[] <nil>", next())
	require.Equal(t, "unmute[] <nil>", next())
	require.Contains(t, []string{"resync [1 2] <nil> true true", "resync [1 2 3] <nil> true true"}, next())
	require.Equal(t, "insert[3] <nil>", next())
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
	write := func() {
		conn := pgtest.Conn(t, dsn)
		go func() {
			_, err := conn.Exec(t.Context(), `INSERT INTO written VALUES (1); SELECT pg_notify('t', 'x')`)
			done <- err
		}()
	}
	for write(); !one[bool](b, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')`); {
		select {
		case err := <-done: // commits have yet to hear of the setting
			require.NoError(t, err)
			write()
		default:
		}
	}
	write()
	b.until(`SELECT waiting_to_notify = 1 AND longest_wait > '0' FROM pghub.health`)
	b.do(`ALTER SYSTEM RESET synchronous_standby_names`)
	b.do(`SELECT pg_reload_conf()`)
	for range 2 {
		require.NoError(t, <-done)
	}
}
