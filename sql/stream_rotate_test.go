package sql

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// age makes all that is in the stream older.
func (b *bench) age(interval string) {
	b.t.Helper()
	b.do(`UPDATE pghub.ticks SET at = at - $1::text::interval`, interval)
}

// kept is how many events each of the three tables has.
func (b *bench) kept() (n [3]int) {
	b.t.Helper()
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(),
		`SELECT (SELECT count(*) FROM pghub.log_0), (SELECT count(*) FROM pghub.log_1), (SELECT count(*) FROM pghub.log_2)`).Scan(&n[0], &n[1], &n[2]))
	return n
}

func (b *bench) rotate() bool {
	b.t.Helper()
	return one[bool](b, `SELECT pghub.rotate()`)
}

func TestRotationDropsWhatIsOlderThanTheRetention(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	fill := func() {
		t.Helper()
		b.do(`SELECT pghub.publish('a', i) FROM generate_series(1, 10) AS i`)
		require.NotNil(t, b.tick())
	}
	fill()
	require.False(t, b.rotate(), "it is not time")
	b.age("37 hours") // half of the retention
	require.True(t, b.rotate())
	require.False(t, b.rotate(), "it is not time again")
	fill()
	b.age("34 hours")
	require.False(t, b.rotate())
	b.age("3 hours")
	require.True(t, b.rotate())
	fill()
	require.Equal(t, [3]int{10, 10, 10}, b.kept())
	b.age("35 hours")
	require.False(t, b.rotate(), "it is not time")
	b.age("2 hours")
	require.True(t, b.rotate(), "what is in the first table is 111 hours old")
	require.Equal(t, [3]int{0, 10, 10}, b.kept())
	fill()

	events, end := b.page(start, wholeTick, wholeTick, nil)
	require.Empty(t, events)
	require.Equal(t, "expired", *end.Value)
	events, end = b.page(end.Tick, end.Txn, end.ID, nil)
	require.Len(t, events, 30)
	require.Equal(t, "end", *end.Value)
	_, end = b.page(end.Tick-1, 5, 5, nil)
	require.Equal(t, "foreign", *end.Value)
	_, end = b.page(1<<60, wholeTick, wholeTick, nil)
	require.Equal(t, "foreign", *end.Value)
}

// What is not readable yet, or has been for less than the retention, stays, however long ago it was written.
func TestRotationLeavesWhatIsYoung(t *testing.T) {
	b := setUp(t)
	other := pgtest.Conn(t, b.dsn)
	var tx pgx.Tx
	for part := range 3 { // through all tables, with a writer that has been at work since the first
		b.do(`SELECT pghub.publish('a', 1)`)
		require.NotNil(t, b.tick())
		if part == 0 {
			var err error
			tx, err = other.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), `SELECT pghub.publish('late', 1)`)
			require.NoError(t, err)
		}
		b.age("37 hours")
		if part < 2 {
			require.True(t, b.rotate())
		}
	}
	b.age("100 hours")
	require.False(t, b.rotate(), "a writer has the table")
	require.Equal(t, [3]int{1, 1, 1}, b.kept())
	require.NoError(t, tx.Commit(t.Context()))
	require.False(t, b.rotate(), "what was committed just now cannot be read yet")
	require.Equal(t, [3]int{2, 1, 1}, b.kept())
	require.NotNil(t, b.tick())
	require.False(t, b.rotate(), "it has been readable for less than the retention")
	b.age("73 hours")
	require.True(t, b.rotate())
	require.Equal(t, [3]int{0, 1, 1}, b.kept())
}

// A reader, or a dump, is not waited for for long, and so nobody waits behind the rotation.
func TestRotationWaitsForNobody(t *testing.T) {
	b := setUp(t)
	reader := pgtest.Conn(t, b.dsn)
	tx, err := reader.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT count(*) FROM pghub.log`)
	require.NoError(t, err)
	b.do(`SELECT pghub.publish('a', 1)`)
	require.NotNil(t, b.tick())
	b.age("37 hours")
	b.do(`SET statement_timeout = '10s'`)
	require.False(t, b.rotate())
	require.NoError(t, tx.Rollback(t.Context()))
	require.True(t, b.rotate())
}

// Numbers of transactions that came from another server are taken over. Positions hold, every event is there, in its order, and no
// new transaction is taken for an old one.
func TestARestoredLogIsTakenOver(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	other := pgtest.Conn(t, b.dsn)
	for range 2 {
		tx, err := other.Begin(t.Context())
		require.NoError(t, err)
		publishOn(t, tx, "2")
		publishOn(t, b.conn, "1")
		publishOn(t, tx, "3")
		require.NoError(t, tx.Commit(t.Context()))
		publishOn(t, b.conn, "4")
		require.NotNil(t, b.tick())
	}
	publishOn(t, b.conn, "5") // no tick has it
	before, _ := b.page(start, wholeTick, wholeTick, nil)
	// As if this server had made fewer transactions than the one that the log is from.
	b.do(`UPDATE pghub.log SET xid = (xid::text::bigint + 1000)::text::xid8`)
	b.do(`UPDATE pghub.ticks SET snapshot = regexp_replace(snapshot::text, '^.*$', concat(pg_snapshot_xmin(snapshot)::text::bigint + 1000, ':', pg_snapshot_xmax(snapshot)::text::bigint + 1000, ':'))::pg_snapshot`)
	require.Nil(t, b.tick(), "it finds out")
	require.NotNil(t, b.tick())
	for range 1200 { // as many transactions as it takes to come to the old numbers
		b.do(`SELECT pg_current_xact_id()`)
	}
	publishOn(t, b.conn, "6")
	require.NotNil(t, b.tick())
	var values []string
	at := logged{Tick: start, Txn: wholeTick, ID: wholeTick}
	var all []logged
	for state := "more"; state == "more"; {
		var events []logged
		events, at = b.page(at.Tick, at.Txn, at.ID, nil)
		for _, ev := range events {
			values = append(values, *ev.Value)
		}
		all = append(all, events...)
		state = *at.Value
	}
	require.Equal(t, []string{"1", "2", "3", "4", "1", "2", "3", "4", "5", "6"}, values)
	require.Equal(t, before, all[:len(before)], "the positions are what they were")
	b.age("100 hours")
	require.True(t, b.rotate())
}

// A dump of the schema alone has no ticks and no settings. The stream begins with what is written first.
func TestTheStreamAfterASchemaOnlyDump(t *testing.T) {
	b := setUp(t)
	b.do(`DELETE FROM pghub.ticks; DELETE FROM pghub.stream_settings`)
	publishOn(t, b.conn, "1")
	start := one[int64](b, "SELECT tick FROM pghub.locate('earliest')")
	require.NotNil(t, b.tick())
	require.Equal(t, []string{"1"}, b.streamed(start))
	require.Equal(t, 72, one[int](b, `SELECT extract(hour FROM retain)::int FROM pghub.stream`))
	b.do(`DELETE FROM pghub.stream_settings; SELECT pghub.configure(retain => '1 hour')`)
	require.Equal(t, 1, one[int](b, `SELECT extract(hour FROM retain)::int FROM pghub.stream`))
}

// A writer rings only where the sequencer sleeps.
func TestTheBell(t *testing.T) {
	b := setUp(t, "pghub.bell")
	b.do(`SELECT pghub.publish('a', 1)`)
	require.Empty(t, b.heard())
	sleeper := pgtest.Conn(t, b.dsn)
	_, err := sleeper.Exec(t.Context(), `SELECT pg_advisory_lock(1885816930, 1)`)
	require.NoError(t, err)
	b.do(`SELECT pghub.publish('a', 2), pghub.publish('a', 3)`)
	require.Len(t, b.heard(), 1)

	// A writer that has not committed keeps it awake.
	_, err = sleeper.Exec(t.Context(), `SELECT pg_advisory_unlock(1885816930, 1)`)
	require.NoError(t, err)
	writer := pgtest.Conn(t, b.dsn)
	tx, err := writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pghub.publish('a', 4)`)
	require.NoError(t, err)
	var locked bool
	try := func() bool {
		t.Helper()
		require.NoError(t, sleeper.QueryRow(t.Context(), `SELECT pg_try_advisory_lock(1885816930, 1)`).Scan(&locked))
		return locked
	}
	require.False(t, try())
	require.NoError(t, tx.Commit(t.Context()))
	require.True(t, try())

	// So does one that writes many events at once.
	const many = `SELECT pghub.capture_all('{a,a}', '{NULL,NULL}', '{5,6}', '{NULL,NULL}')`
	b.do(many)
	require.Len(t, b.heard(), 1)
	_, err = sleeper.Exec(t.Context(), `SELECT pg_advisory_unlock(1885816930, 1)`)
	require.NoError(t, err)
	tx, err = writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), many)
	require.NoError(t, err)
	require.False(t, try())
	require.NoError(t, tx.Rollback(t.Context()))
	require.True(t, try())
}

func TestWhoMayDoWhatWithTheStream(t *testing.T) {
	b := setUp(t)
	role := b.role()
	as := func(sql string, args ...any) error {
		t.Helper()
		tx, err := b.conn.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(t.Context()) }()
		_, err = tx.Exec(t.Context(), "SET LOCAL ROLE "+role)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), sql, args...)
		return err
	}
	const publish, read, seek = `SELECT pghub.publish('a', 1)`, `SELECT * FROM pghub.page(0, 0, 0, NULL)`, `SELECT pghub.forget('x')`
	require.NoError(t, as(publish), "everybody may, as with NOTIFY")
	require.ErrorContains(t, as(`INSERT INTO pghub.log_0 (topic, xid) VALUES ('a', '5')`), "permission denied")
	for _, sql := range []string{
		read, seek, `SELECT * FROM pghub.log`, `SELECT * FROM pghub.stream_consumers`, `SELECT pghub.tick()`, `SELECT pghub.rotate()`, `SELECT pghub.adopt()`,
		`SELECT pghub.locate('earliest')`, `SELECT pghub.configure(retain => '1 second')`, `SELECT pghub.seek('x', 'earliest')`, `SELECT pghub.unpark('x')`,
		`SELECT pghub.replay('x', now())`, `SELECT pghub.store('x', 1, '1 s', 1, 1, 1)`, `SELECT pghub.allow(0, 'read')`, `DELETE FROM pghub.consumers`,
		`SELECT pghub.lead('sequencer', 'x', '1 day')`, `SELECT pghub.attach('x', 'x', '1 s', NULL, 'earliest')`,
	} {
		require.ErrorContains(t, as(sql), "permission denied", sql)
	}
	b.do(`SELECT pghub.allow('` + role + `', 'read')`)
	require.NoError(t, as(read))
	require.NoError(t, as(`SELECT * FROM pghub.stream_consumers`))
	require.ErrorContains(t, as(seek), "permission denied")
	b.do(`SELECT pghub.allow('` + role + `', 'administer')`)
	require.NoError(t, as(seek))
	require.ErrorContains(t, as(`DELETE FROM pghub.consumers`), "permission denied")
	b.do(`SELECT pghub.allow('` + role + `', 'administer', false)`)
	require.ErrorContains(t, as(read), "permission denied")
	b.do(`SELECT pghub.allow(0, 'publish', false)`)
	require.ErrorContains(t, as(publish), "permission denied")
	b.fails("22023", "none of publish, read, administer", `SELECT pghub.allow(0, 'x')`)
}

// Whatever is stored, is stored with the last token.
func TestATokenOfThePastStoresNothing(t *testing.T) {
	b := setUp(t)
	b.do(`SELECT pghub.publish('a', 1)`)
	b.tick()
	attach := func(owner string) (token *int64) {
		t.Helper()
		return one[*int64](b, `SELECT token FROM pghub.attach('c', $1, '1 hour', NULL, 'earliest')`, owner)
	}
	first := attach("one")
	require.NotNil(t, first)
	require.Nil(t, attach("two"), "somebody has it")
	b.do(`UPDATE pghub.consumers SET until = now() - interval '1 second'`)
	second := attach("two")
	require.NotNil(t, second)
	for _, sql := range []string{
		`SELECT pghub.store('c', $1, '1 h', 1, 1, 1)`, `SELECT pghub.store('c', $1, '1 h', NULL, NULL, NULL)`, `SELECT pghub.attempt('c', $1, 1, 1, 1, 1, NULL)`,
		`SELECT pghub.succeeded('c', $1, 1, 1, 1)`, `SELECT pghub.park('c', $1, 1, 1, 1, 't', NULL, NULL, NULL, now(), 1, 'e')`,
	} {
		b.fails("PGH01", "somebody else works for consumer 'c'", sql, *first)
		b.do(sql, *second)
	}
	b.do(`SELECT pghub.detach('c', $1)`, *first)
	require.Nil(t, attach("three"), "an old token frees nothing")
	b.do(`SELECT pghub.detach('c', $1)`, *second)
	require.NotNil(t, attach("three"))
}

// A position goes forward alone, unless it is said that it need not.
func TestPositionsGoForward(t *testing.T) {
	b := setUp(t)
	token := one[int64](b, `SELECT token FROM pghub.attach('c', 'one', '1 hour', NULL, 'earliest')`)
	publishOn(t, b.conn, "1")
	first := *b.tick()
	publishOn(t, b.conn, "2")
	second := *b.tick()
	at := func() int64 { return one[int64](b, `SELECT tick FROM pghub.consumers`) }
	b.do(`SELECT pghub.store('c', $1, '1 h', $2, 1, 1)`, token, second)
	b.do(`SELECT pghub.store('c', $1, '1 h', $2, 1, 1)`, token, first)
	require.Equal(t, second, at())
	b.do(`SELECT pghub.store('c', $1, '1 h', $2, 1, 1, true)`, token, first)
	require.Equal(t, first, at())
}

// A server that has lost what it had stored, or the tick of a position, says so, and gives no token for a second time.
func TestAServerThatWasSetBack(t *testing.T) {
	b := setUp(t)
	const attach = `SELECT token FROM pghub.attach('c', 'one', '1 hour', NULL, 'earliest')`
	token := one[int64](b, attach)
	start := one[int64](b, `SELECT tick FROM pghub.consumers`)
	publishOn(t, b.conn, "1")
	tick := *b.tick()
	const setBack, store = "which has been set back", `SELECT pghub.store('c', $1, '1 h', $2, 1, 1, false, $3, 1, 1)`
	b.fails("PGH02", setBack, store, token, tick+1, start) // a tick that it does not know
	b.do(store, token, start-1, start-1)                   // what it has dropped it does not know any more
	b.do(store, token, tick, start)
	b.do(store, token, tick, tick)
	b.do(`UPDATE pghub.consumers SET tick = $1`, start)
	b.fails("PGH02", setBack, store, token, tick, tick)
	b.fails("PGH02", setBack, `SELECT pghub.store('c', $1, '1 h', NULL, NULL, NULL, false, $2, 1, 1)`, token, tick)

	b.do(`UPDATE pghub.consumers SET token = 0`) // as it was before the consumer was taken
	require.NotEqual(t, token, one[int64](b, attach))
}
