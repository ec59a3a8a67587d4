package sql

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// until waits for a query to be true on a connection of its own.
func (b *bench) until(sql string, args ...any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	conn := pgtest.Conn(b.t, b.dsn)
	for {
		var yes bool
		require.NoError(b.t, conn.QueryRow(ctx, sql, args...).Scan(&yes), sql)
		if yes {
			return
		}
	}
}

const waiting = `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)`

// A writer's statement does not fail, whatever his session has set and whatever was taken from PUBLIC.
func TestWritersNeverFail(t *testing.T) {
	b := setUp(t, "people")
	role := b.role()
	b.do(people + `GRANT ALL ON people TO ` + role)
	for _, level := range []string{"row", "statement", "change"} {
		b.do(`SELECT pghub.watch('people', level => $$` + level + `$$)`)
		for _, seq := range []string{"abc", "", "-1", "1e3", "99999999999999999999999999", " 7", "3"} {
			b.do(`SET pghub.seq = '` + seq + `'`)
			list := b.changes(`INSERT INTO people VALUES (1, 'a'); DELETE FROM people; TRUNCATE people`)
			require.Len(t, list, 3, seq)
		}
		b.do(`RESET pghub.seq; REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC; SET ROLE ` + role)
		_, err := b.conn.Exec(t.Context(), `INSERT INTO people VALUES (1, 'a ''quoted'' \ name'); DELETE FROM people; TRUNCATE people`)
		require.NoError(t, err)
		b.do(`RESET ROLE; GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC`)
		require.Len(t, b.heard(), 3)
	}
}

// A topic may be any text: it is quoted wherever it stands.
func TestOddTopics(t *testing.T) {
	for _, topic := range []string{`it's`, `"; DROP TABLE people; --`, `$$ END $t$ %1$s`, "a\nBEGIN\n  RETURN NULL;  -- muted\n", `back\slash`} {
		b := setUp(t, topic)
		b.do(people)
		for _, level := range []Level{Row, Statement, Change} {
			require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: "people", Topic: topic, Level: level}))
			require.Len(t, b.after(`INSERT INTO people VALUES (1, 'a'); DELETE FROM people`), 2, topic)
		}
	}
}

// Names of schema, table and columns may be any text too.
func TestOddNames(t *testing.T) {
	b := setUp(t, "t")
	odd := []string{`it's`, `a "b" c`, `%1$s%I`, `$t$ $$`, `[=]`, `@text`, `{"a":1}`, "new\nline", `back\slash`, `TG_OP`, `seq`, `this`, `key`}
	for _, name := range odd {
		q := pgx.Identifier{name}.Sanitize()
		b.do(`CREATE SCHEMA ` + q + `; CREATE TABLE ` + q + `.` + q + ` (` + q + ` int PRIMARY KEY, "v ""''%" text, hidden int)`)
		for _, options := range []Watch{{}, {Level: Statement}, {Exclude: []string{"hidden"}, Old: true, Changed: true}, {Level: Change}} {
			options.Table, options.Topic = q+`.`+q, "t"
			require.NoError(t, Apply(t.Context(), b.conn, options))
			c := b.change(`INSERT INTO ` + q + `.` + q + ` VALUES (7, 'x')`)
			require.Equal(t, name, c.Table)
			if options.Level != Change {
				require.Equal(t, "7", c.key, name)
			}
			list := b.changes(`UPDATE ` + q + `.` + q + ` SET ` + q + ` = 8, "v ""''%" = 'y'; DELETE FROM ` + q + `.` + q)
			require.Len(t, list, 2)
			require.False(t, list[0].Truncated)
			if options.Changed {
				require.Equal(t, []string{name, `v "''%`}, list[0].Changed)
			}
		}
	}
}

// The settings of a session do not change the ids of level statement.
func TestStatementSettings(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (a timestamptz, b interval, c bytea, d float8, PRIMARY KEY (a, b, c, d)); SELECT pghub.watch('t', level => 'statement');
		SET timezone = 'Asia/Kathmandu'; SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -2; SET search_path = public, pg_catalog`)
	b.do(`BEGIN; INSERT INTO t VALUES ('2024-02-29 01:02:03+02', '1 day 02:00:00', '\x00ff', 0.1234567890123456789)`)
	require.Equal(t, []string{"Asia/Kathmandu", "sql_standard", "escape", "-2", "public, pg_catalog"}, one[[]string](b, `SELECT ARRAY[current_setting('timezone'),
		current_setting('intervalstyle'), current_setting('bytea_output'), current_setting('extra_float_digits'), current_setting('search_path')]`), "and stay as they are")
	b.do(`COMMIT`)
	require.Contains(t, b.heard()[0], `"ids":[{"a":"2024-02-28T23:02:03+00:00","b":"1 day 02:00:00","c":"\\x00ff","d":0.12345678901234568}]`)
	b.do(`RESET ALL`)
}

// A transaction that wrote may declare the watches beside others that do.
func TestWatchAfterWriting(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people')`)
	a, other := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
	for _, conn := range []*pgx.Conn{a, other} {
		_, err := conn.Exec(t.Context(), fmt.Sprintf(`BEGIN; INSERT INTO people VALUES (%d, 'a')`, conn.PgConn().PID()))
		require.NoError(t, err)
	}
	for _, conn := range []*pgx.Conn{a, other} { // in effect: nothing is locked, not even by an advisory lock
		_, err := conn.Exec(t.Context(), `SELECT pghub.watch('people')`)
		require.NoError(t, err)
		require.Zero(t, one[int](b, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`))
	}
	_, err := other.Exec(t.Context(), `ROLLBACK`)
	require.NoError(t, err)

	// One who only changes the watch waits for one who wrote, who can change it too.
	done := make(chan error, 1)
	go func() {
		_, err := other.Exec(t.Context(), `SET lock_timeout = '1min'; SELECT pghub.watch('people', topic => 'other')`)
		done <- err
	}()
	b.until(waiting, other.PgConn().PID())
	_, err = a.Exec(t.Context(), `SELECT pghub.watch('people', topic => 'mine'); COMMIT`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Equal(t, "other", one[string](b, `SELECT topic FROM pghub.watches`))
}

// Apply gives up a lock that it does not get, lets others pass, and comes again.
func TestApplyTriesAgain(t *testing.T) {
	b := setUp(t)
	b.do(people)
	holder, writer := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
	_, err := holder.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (1, 'a')`)
	require.NoError(t, err)
	pid := b.conn.PgConn().PID()
	b.do(`SET lock_timeout = '1s'`)
	done := make(chan error, 1)
	go func() { done <- Apply(t.Context(), b.conn, Watch{Table: "people"}) }()
	for range 2 { // it waits, and is gone again
		b.until(waiting, pid)
		_, err = writer.Exec(t.Context(), `SET lock_timeout = '1min'; INSERT INTO people SELECT max(id) + 1, 'b' FROM people WHERE false OR id > 0 HAVING max(id) > 0`)
		require.NoError(t, err)
		b.until(`SELECT NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)`, pid)
	}
	_, err = holder.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Equal(t, 1, one[int](b, `SELECT count(*) FROM pghub.watches`))

	// Two seconds where the session has no limit of its own; a transaction's is tried once; the others are applied all the same.
	b.do(`CREATE TABLE other (id int PRIMARY KEY); RESET lock_timeout`)
	_, err = holder.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (-1, 'a')`)
	require.NoError(t, err)
	tx, err := b.conn.Begin(t.Context())
	require.NoError(t, err)
	err = Apply(t.Context(), tx, Watch{Table: "people", Level: Statement}, Watch{Table: "other"})
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "55P03", pgErr.Code)
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, "0", one[string](b, `SHOW lock_timeout`))
	require.Equal(t, []string{"other", "people"}, one[[]string](b, `SELECT array_agg(topic ORDER BY topic) FROM pghub.watches`))
	_, err = holder.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
}

// Without a lock_timeout of the session's own, watch gives up a lock by itself, since whoever comes after it waits too.
func TestWatchGivesUpALock(t *testing.T) {
	b := setUp(t)
	b.do(people)
	holder := pgtest.Conn(t, b.dsn)
	_, err := holder.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (1, 'a')`)
	require.NoError(t, err)
	b.do(`SET statement_timeout = '30s'`) // which is another error
	b.fails("55P03", "lock timeout", `SELECT pghub.watch('people')`)
	require.Equal(t, "0", one[string](b, `SHOW lock_timeout`))
	_, err = holder.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
}

// A plan runs nothing; what it says is what is run.
func TestPlan(t *testing.T) {
	b := setUp(t)
	b.do(people + `CREATE TABLE other (id int PRIMARY KEY)`)
	watches := []Watch{{Table: "people", Operations: []Operation{Insert, Update}, Of: []string{"name"}, Condition: "NEW.height > 2"}, {Table: "other", Level: Statement}}
	steps, err := Plan(t.Context(), b.conn, watches[1])
	require.NoError(t, err)
	require.Len(t, steps, 5)
	require.Equal(t, "none", steps[0].Lock)
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches`))
	for _, step := range steps {
		require.Equal(t, "other", step.Table)
		b.do(step.Command)
	}
	require.NoError(t, Apply(t.Context(), b.conn, watches...))
	steps, err = Plan(t.Context(), b.conn, watches...)
	require.NoError(t, err)
	require.Empty(t, steps, "by hand or by Apply, it is the same")

	watches[1].Operations = []Operation{Delete}
	steps, err = Plan(t.Context(), b.conn, watches...)
	require.NoError(t, err)
	var locks []string
	for _, step := range steps {
		locks = append(locks, strings.Fields(step.Command)[0]+" "+step.Lock)
	}
	require.Contains(t, locks, "DROP ACCESS EXCLUSIVE")
	require.Contains(t, locks, "CREATE SHARE ROW EXCLUSIVE")
	// The locks are those that PostgreSQL takes.
	for _, step := range steps {
		b.do("BEGIN; " + step.Command)
		held := one[[]string](b, `SELECT coalesce(array_agg(mode), '{}') FROM pg_locks WHERE relation = 'other'::regclass AND pid = pg_backend_pid() AND mode IN ('AccessExclusiveLock', 'ShareRowExclusiveLock')`)
		want := map[string][]string{"none": {}, "SHARE ROW EXCLUSIVE": {"ShareRowExclusiveLock"}, "ACCESS EXCLUSIVE": {"AccessExclusiveLock"}}[step.Lock]
		require.Equal(t, want, held, step.Command)
		b.do("COMMIT")
	}
	_, err = Plan(t.Context(), b.conn, Watch{Table: "nowhere"})
	require.ErrorContains(t, err, "plan of nowhere")
}

// A new function for the same watch, as after REINDEX CONCURRENTLY, locks nothing. On 14 and later a changed one does not lock readers out.
func TestWatchLocksAsLittleAsItCan(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people')`)
	b.do(`REINDEX TABLE CONCURRENTLY people`)
	reader := pgtest.Conn(t, b.dsn)
	_, err := reader.Exec(t.Context(), `BEGIN; INSERT INTO people VALUES (1, 'a')`)
	require.NoError(t, err)
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`))
	_, err = reader.Exec(t.Context(), `COMMIT; BEGIN; SELECT FROM people`)
	require.NoError(t, err)
	if b.version() >= 14 {
		require.True(t, one[bool](b, `SELECT pghub.watch('people', topic => 'other')`))
	} else {
		b.fails("55P03", "lock timeout", `SET lock_timeout = '100ms'; SELECT pghub.watch('people', topic => 'other')`)
	}
	_, err = reader.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
}

// In a rolling deployment the old program leaves the new one's watch alone.
func TestGeneration(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `CREATE TABLE other (id int PRIMARY KEY)`)
	older, newer := Watch{Table: "people"}, Watch{Table: "people", Level: Statement, Generation: 2}
	require.NoError(t, Apply(t.Context(), b.conn, older))
	require.NoError(t, Apply(t.Context(), b.conn, newer))
	err := Apply(t.Context(), b.conn, older, Watch{Table: "other"})
	require.ErrorIs(t, err, ErrNewerWatch)
	require.ErrorContains(t, err, "watch people: pghub/sql: the database has a watch of a higher generation: 2, and this one's is 0")
	require.NotNil(t, b.change(`INSERT INTO people VALUES (1, 'a')`).Count)
	require.Equal(t, 2, one[int](b, `SELECT count(*) FROM pghub.watches`), "the others are applied")
	require.NoError(t, Apply(t.Context(), b.conn, newer))
	newer.Level, newer.Generation = Change, 3
	require.NoError(t, Apply(t.Context(), b.conn, newer))
	require.Equal(t, "change", one[string](b, `SELECT level FROM pghub.watches WHERE topic = 'people'`))
}

// ENABLE ALWAYS outlives a change of the watch; ENABLE REPLICA is not enabled for those who write here.
func TestEnableAlwaysAndReplica(t *testing.T) {
	b := setUp(t, "people", "other")
	b.do(people + `SELECT pghub.watch('people', operations => '{insert}'); ALTER TABLE people ENABLE ALWAYS TRIGGER pghub_watch_insert`)
	require.Equal(t, "always", one[string](b, `SELECT fires FROM pghub.watches WHERE enabled`))
	require.True(t, one[bool](b, `SELECT pghub.watch('people', topic => 'other', operations => '{insert}')`))
	b.do(`SET session_replication_role = replica`)
	require.Len(t, b.changes(`INSERT INTO people VALUES (1, 'a')`), 1)
	b.do(`RESET session_replication_role; ALTER TABLE people ENABLE REPLICA TRIGGER pghub_watch_insert`)
	require.Equal(t, "replica", one[string](b, `SELECT fires FROM pghub.watches WHERE NOT enabled`))
	require.Empty(t, b.changes(`INSERT INTO people VALUES (2, 'a')`))
	require.True(t, one[bool](b, `SELECT pghub.watch('people', topic => 'other', operations => '{insert}')`), "not in effect, so it is put right")
	require.Len(t, b.changes(`INSERT INTO people VALUES (3, 'a')`), 1)
}

// A table with a watch of its own can become a partition of one that is watched by the same name.
func TestAttachWatchedPartition(t *testing.T) {
	b := setUp(t, "parts", "one", "two")
	b.do(`CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE one (id int PRIMARY KEY, v int); CREATE TABLE two (id int PRIMARY KEY, v int);
		SELECT pghub.watch('parts'), pghub.watch('one'), pghub.watch('two', level => 'statement');
		ALTER TABLE parts ATTACH PARTITION one FOR VALUES FROM (1) TO (10);
		ALTER TABLE parts ATTACH PARTITION two FOR VALUES FROM (10) TO (20)`)
	var tables []string
	for _, c := range b.changes(`INSERT INTO parts VALUES (1), (10)`) {
		tables = append(tables, c.Table+" "+c.key)
	}
	require.ElementsMatch(t, []string{"parts 1", "one 1", "parts 10"}, tables)
	require.False(t, one[bool](b, `SELECT pghub.watch('parts')`))
	require.False(t, one[bool](b, `SELECT pghub.watch('one')`))
	require.Equal(t, []string{"two: statements that name its parent parts are missed: watch that one"},
		one[[]string](b, `SELECT array_agg(name || ': ' || warning) FROM (SELECT relation::text AS name, warning FROM pghub.watches WHERE warning IS NOT NULL) w`))
	require.Equal(t, 1, one[int](b, `SELECT warnings FROM pghub.health`))
	b.fails("0A000", "would miss the statements that name its parent", `SELECT pghub.watch('two', level => 'statement')`)
	require.True(t, one[bool](b, `SELECT pghub.unwatch('parts')`))
}

// Two tables of one name do not share a topic by accident; a watch that has the table's name for one keeps it.
func TestDefaultTopic(t *testing.T) {
	b := setUp(t)
	b.do(`CREATE SCHEMA sales; CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE sales.orders (id int PRIMARY KEY); SELECT pghub.watch('orders'), pghub.watch('sales.orders')`)
	require.Equal(t, []string{"orders", "sales.orders"}, one[[]string](b, `SELECT array_agg(topic ORDER BY topic) FROM pghub.watches`))
	b.do(`SELECT pghub.watch('sales.orders', topic => 'orders'), pghub.watch('sales.orders')`)
	require.Equal(t, []string{"orders", "orders"}, one[[]string](b, `SELECT array_agg(topic ORDER BY topic) FROM pghub.watches`))
	b.fails("22023", "condition is empty", `SELECT pghub.watch('orders', condition => ' ')`)
}
