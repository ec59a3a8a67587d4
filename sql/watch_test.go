package sql

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// What is wrong with a watch is said when it is asked for, not when a row is written.
func TestWatchErrors(t *testing.T) {
	b := setUp(t)
	b.do(people + `CREATE VIEW v AS SELECT * FROM people; CREATE MATERIALIZED VIEW m AS SELECT * FROM people; CREATE SEQUENCE s; CREATE TYPE c AS (a int);
		CREATE TABLE docs (x int, y int, j json)`)
	for _, c := range []struct{ args, code, text string }{
		{`'nowhere'`, "42P01", `relation "nowhere" does not exist`},
		{`'People'''`, "42P01", `does not exist`},
		{`'"People"'`, "42P01", `relation "People" does not exist`},
		{`NULL`, "42P01", `pghub.watch: there is no table NULL`},
		{`1::regclass`, "42P01", `pghub.watch: there is no table 1`},
		{`'v'`, "42809", `pghub.watch: public.v is a view, not a table`},
		{`'m'`, "42809", `pghub.watch: public.m is a materialized view, not a table`},
		{`'s'`, "42809", `pghub.watch: public.s is a sequence, not a table`},
		{`'c'`, "42809", `pghub.watch: public.c is a type, not a table`},
		{`'people_pkey'`, "42809", `pghub.watch: public.people_pkey is an index, not a table`},
		{`'pg_class'`, "42501", `permission denied: "pg_class" is a system catalog`},
		{`'people', level => 'rows'`, "22023", `pghub.watch: level 'rows' is none of row, statement, change`},
		{`'people', level => NULL`, "22023", `pghub.watch: level NULL is none of row, statement, change`},
		{`'people', topic => ''`, "22023", `pghub.watch: topic '' has 0 bytes; a topic has 1 to 63`},
		{`'people', topic => repeat('é', 32)`, "22023", `has 64 bytes; a topic has 1 to 63`},
		{`'people', name => ''`, "22023", `pghub.watch: name '' has 0 bytes; a name has 1 to 40`},
		{`'people', name => NULL`, "22023", `pghub.watch: name NULL has 0 bytes; a name has 1 to 40`},
		{`'people', name => repeat('x', 41)`, "22023", `has 41 bytes; a name has 1 to 40`},
		{`'people', operations => '{insert,upsert}'`, "22023", `pghub.watch: operations has 'upsert'; it takes insert, update, delete and truncate`},
		{`'people', operations => '{insert,NULL}'`, "22023", `pghub.watch: operations has NULL`},
		{`'people', operations => '{}'`, "22023", `pghub.watch: operations has none`},
		{`'people', operations => NULL`, "22023", `pghub.watch: operations has none`},
		{`'people', "of" => '{size}'`, "42703", `pghub.watch: of names column size, and public.people has none of this name`},
		{`'people', "of" => '{name,NULL}'`, "42703", `pghub.watch: of names column NULL`},
		{`'people', "of" => '{}'`, "22023", `pghub.watch: of names no column`},
		{`'people', include => '{name,born}'`, "42703", `pghub.watch: include names column born`},
		{`'people', include => '{ctid}'`, "42703", `pghub.watch: include names column ctid`},
		{`'people', exclude => '{"a b"}'`, "42703", `pghub.watch: exclude names column "a b"`},
		{`'people', exclude => '{id,name,height,Born}'`, "22023", `pghub.watch: no column of public.people is left to announce`},
		{`'people', include => '{id}', exclude => '{name}'`, "22023", `pghub.watch: include and exclude do not go together`},
		{`'people', operations => '{insert}', "of" => '{name}'`, "22023", `pghub.watch: of, old and changed are about updates`},
		{`'people', operations => '{insert}', old => true`, "22023", `pghub.watch: of, old and changed are about updates`},
		{`'people', operations => '{insert}', changed => true`, "22023", `pghub.watch: of, old and changed are about updates`},
		{`'people', level => 'statement', "of" => '{name}'`, "22023", `need level row, not statement`},
		{`'people', level => 'statement', include => '{name}'`, "22023", `need level row, not statement`},
		{`'people', level => 'statement', old => true`, "22023", `need level row, not statement`},
		{`'people', level => 'change', condition => 'true'`, "22023", `need level row, not change`},
		{`'people', level => 'change', changed => true`, "22023", `need level row, not change`},
		// PostgreSQL's own texts.
		{`'people', operations => '{update}', condition => 'NEW.size > 2'`, "42703", `column new.size does not exist`},
		{`'people', operations => '{update}', condition => 'NEW.height'`, "42804", `argument of WHEN must be type boolean, not type numeric`},
		{`'people', operations => '{update}', condition => 'NEW.height > '`, "42601", `syntax error`},
		{`'people', operations => '{update}', condition => 'NEW.height > (SELECT 1)'`, "0A000", `cannot use subquery in trigger WHEN condition`},
		{`'people', operations => '{update}', condition => 'tall(NEW.height)'`, "42883", `function tall(numeric) does not exist`},
		{`'people', condition => 'NEW.height > 2'`, "42P17", `DELETE trigger's WHEN condition cannot reference NEW values`},
		{`'people', operations => '{insert}', condition => 'OLD.height > 2'`, "42P17", `INSERT trigger's WHEN condition cannot reference OLD values`},
		{`'docs', operations => '{update}', condition => 'OLD IS DISTINCT FROM NEW'`, "42883", `could not identify an equality operator for type json`},
		{`'docs', operations => '{update}', condition => 'OLD.* <> NEW.*'`, "42883", `could not identify an equality operator for type json`},
	} {
		err := b.fails(c.code, c.text, `SELECT pghub.watch(`+c.args+`)`)
		if c.code == "42P17" {
			require.Contains(t, err.Hint, "Name the operations that the condition is for")
		}
	}
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches`))
	b.do(`INSERT INTO people VALUES (1, 'a', 3); UPDATE people SET height = 4; DELETE FROM people`)

	b.do(`SELECT pghub.watch('people', operations => '{update}', condition => 'OLD IS DISTINCT FROM NEW')`)
	b.do(`SELECT pghub.watch('docs', operations => '{update}', condition => 'OLD *<> NEW')`)
}

func TestWatchAgainReplaces(t *testing.T) {
	b := setUp(t, "people", "other")
	b.do(people)
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.False(t, one[bool](b, `SELECT pghub.watch('people', 'people', 'row', '{TRUNCATE,delete,update,insert}')`))
	require.False(t, one[bool](b, `SELECT pghub.watch('people', NULL, old => NULL, changed => NULL, condition => NULL)`))
	require.True(t, one[bool](b, `SELECT pghub.watch('people', level => 'statement', operations => '{insert}')`))
	require.EqualValues(t, 1, *b.change(`INSERT INTO people VALUES (1, 'a')`).Count)
	require.Empty(t, b.changes(`DELETE FROM people`))

	// What fails leaves the watch as it was, and so does what is rolled back.
	b.fails("42703", "column new.x does not exist", `SELECT pghub.watch('people', condition => 'NEW.x')`)
	b.do(`BEGIN; SELECT pghub.watch('people', topic => 'other'), pghub.unwatch('people'); ROLLBACK`)
	require.NotNil(t, b.change(`INSERT INTO people VALUES (2, 'a')`).Count)

	// Watches of other names live beside it.
	require.True(t, one[bool](b, `SELECT pghub.watch('people', topic => 'other', name => 'Second "one"')`))
	require.Len(t, b.changes(`INSERT INTO people VALUES (3, 'a')`), 2)
	require.Equal(t, []string{
		`Second "one" row other {delete,insert,truncate,update}`,
		`watch statement people {insert}`,
	}, one[[]string](b, `SELECT array_agg(concat_ws(' ', name, level, definition::jsonb->>'topic', operations) ORDER BY name)
		FROM pghub.watches WHERE relation = 'people'::regclass AND enabled`))
	require.True(t, one[bool](b, `SELECT pghub.unwatch('people', 'Second "one"')`))
	require.False(t, one[bool](b, `SELECT pghub.unwatch('people', 'Second "one"')`))
	require.Len(t, b.changes(`INSERT INTO people VALUES (4, 'a')`), 1)

	// A trigger that somebody dropped or disabled is put right.
	b.do(`ALTER TABLE people DISABLE TRIGGER USER`)
	require.Empty(t, b.changes(`INSERT INTO people VALUES (5, 'a')`))
	require.True(t, one[bool](b, `SELECT pghub.watch('people', level => 'statement', operations => '{insert}')`))
	require.Len(t, b.changes(`INSERT INTO people VALUES (6, 'a')`), 1)
	b.do(`SELECT pghub.watch('people'); DROP TRIGGER pghub_watch_update ON people`)
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.Len(t, b.changes(`UPDATE people SET name = 'b' WHERE id = 6`), 1)

	b.do(`SELECT pghub.watch('people', name => 'a'), pghub.watch('people', name => 'b')`)
	require.True(t, one[bool](b, `SELECT pghub.unwatch('people')`), "all of them")
	require.False(t, one[bool](b, `SELECT pghub.unwatch('people')`), "a table that is not watched")
	require.Empty(t, b.changes(`INSERT INTO people VALUES (7, 'a')`))
	b.fails("42P01", `relation "nowhere" does not exist`, `SELECT pghub.unwatch('nowhere')`)
}

// A service that declares its tables at every start must not wait for those who use them, nor make them wait.
func TestWatchUnchangedLocksNothing(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people')`)
	other := pgtest.Conn(t, b.dsn)
	_, err := other.Exec(t.Context(), `BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	b.do(`SET lock_timeout = '2s'`)
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	b.fails("55P03", "lock timeout", `SELECT pghub.watch('people', level => 'change')`)
}

func TestWatchByManyAtOnce(t *testing.T) {
	b := setUp(t, "people")
	b.do(people)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		conn := pgtest.Conn(t, b.dsn)
		wg.Go(func() {
			for range 10 {
				if errs[i] = Apply(t.Context(), conn, Watch{Table: "people", Level: []Level{Row, Statement}[i%2]}); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Len(t, b.changes(`INSERT INTO people VALUES (1, 'a')`), 1)
}

// Who comes second sees what the first has done: a watch of one name is one, and not some triggers of each.
func TestWatchWaitsBeforeItPlans(t *testing.T) {
	b := setUp(t)
	b.do(people)
	first, second := pgtest.Conn(t, b.dsn), pgtest.Conn(t, b.dsn)
	_, err := first.Exec(t.Context(), `BEGIN; SELECT pghub.watch('people')`)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := second.Exec(t.Context(), `SET lock_timeout = '1min'; SELECT pghub.watch('people', topic => 'other', operations => '{insert}')`)
		done <- err
	}()
	b.until(waiting, second.PgConn().PID())
	_, err = first.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Equal(t, []string{"other: {insert}"}, one[[]string](b, `SELECT array_agg(topic || ': ' || operations::text) FROM pghub.watches`))
}

func TestApply(t *testing.T) {
	b := setUp(t, "tall", "orders")
	pool := pgtest.Pool(t, b.dsn)
	b.do(people + `CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop"."Orders" (id int PRIMARY KEY)`)
	watches := []Watch{
		{
			Table: "people", Topic: "tall", Name: "tall", Operations: []Operation{Update}, Of: []string{"height"}, Exclude: []string{"Born"},
			Old: true, Changed: true, Condition: "NEW.height > 2.0",
		},
		{Table: `"My Shop"."Orders"`, Topic: "orders", Level: Statement},
	}
	for range 2 {
		require.NoError(t, Apply(t.Context(), pool, watches...))
	}
	list := b.changes(`INSERT INTO people VALUES (1, 'a', 3); UPDATE people SET height = 2.5; UPDATE people SET height = 1;
		INSERT INTO "My Shop"."Orders" VALUES (7)`)
	require.Len(t, list, 2)
	require.Equal(t, []string{"height"}, list[0].Changed)
	require.NotContains(t, list[0].Old, "Born")
	require.Equal(t, []string{"My Shop", "Orders", "7"}, []string{list[1].Schema, list[1].Table, list[1].key})

	err := Apply(t.Context(), pool, Watch{Table: "people", Include: []string{"x"}})
	require.ErrorContains(t, err, `watch people: ERROR: pghub.watch: include names column x, and public.people has none of this name`)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Error(t, Apply(t.Context(), pool, Watch{}))
	require.ErrorContains(t, Apply(t.Context(), pool, Watch{Table: "people", Operations: []Operation{}}), "operations has none")

	for _, want := range []bool{true, false} {
		removed, err := Remove(t.Context(), pool, "people", "tall")
		require.NoError(t, err)
		require.Equal(t, want, removed)
	}
	removed, err := Remove(t.Context(), pool, `"My Shop"."Orders"`, "")
	require.NoError(t, err)
	require.True(t, removed)
	_, err = Remove(t.Context(), pool, "nowhere", "")
	require.ErrorContains(t, err, "unwatch nowhere")
}

// A temporary table is watched for as long as it lives, also beside one of the same name.
func TestWatchTemporaryTable(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `CREATE TEMP TABLE people (id int PRIMARY KEY); SET search_path = public, pg_temp;
		SELECT pghub.watch('pg_temp.people', level => 'statement')`)
	require.Empty(t, b.changes(`INSERT INTO people VALUES (1, 'a')`))
	require.Equal(t, "2", b.change(`INSERT INTO pg_temp.people VALUES (2)`).key)
	require.True(t, one[bool](b, `SELECT pghub.unwatch('pg_temp.people')`))
}

// A watch goes with its table: it is nothing but triggers.
func TestWatchGoesWithTheTable(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people'); DROP TABLE people`)
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches`))
}

// Triggers of others, with whatever arguments, are none of our business, and a hand-made one does no harm.
func TestForeignTriggers(t *testing.T) {
	b := setUp(t)
	b.do(people + `CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER pghub_watch_mine AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION mine('{not', 'json');
		CREATE TRIGGER none AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION mine();
		CREATE TRIGGER odd AFTER TRUNCATE ON people EXECUTE FUNCTION pghub.announce_change('');
		CREATE TRIGGER odd2 AFTER DELETE ON people EXECUTE FUNCTION pghub.announce_change()`)
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.True(t, one[bool](b, `SELECT pghub.unwatch('people')`))
	require.Equal(t, 2, one[int](b, `SELECT count(*) FROM pg_trigger WHERE tgrelid = 'people'::regclass AND NOT tgisinternal`))
}
