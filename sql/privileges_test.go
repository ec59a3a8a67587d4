package sql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever may write a table may write it when it is watched, even if the schema pghub is closed to him.
func TestWritersNeedNoPrivileges(t *testing.T) {
	b := setUp(t, "people", "docs")
	role := b.role()
	b.do(people + `CREATE TABLE docs (path text PRIMARY KEY, j json)`)
	for _, table := range []string{"people", "docs"} {
		b.do(fmt.Sprintf(`GRANT INSERT, UPDATE, DELETE, TRUNCATE, SELECT ON %s TO %s`, table, role))
	}
	b.do(`REVOKE USAGE ON SCHEMA pghub FROM PUBLIC; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pghub FROM PUBLIC`)
	for _, level := range []string{"row", "statement", "change"} {
		b.do(fmt.Sprintf(`SELECT pghub.watch('people', level => '%[1]s'), pghub.watch('docs', level => '%[1]s')`, level))
		if level == "row" {
			b.do(`SELECT pghub.watch('people', include => '{name}', old => true, changed => true, name => 'two')`)
		}
		b.do(`SET ROLE ` + role)
		b.fails("42501", "permission denied for schema pghub", `SELECT pghub.notify('t')`)
		require.Len(t, b.changes(`INSERT INTO people VALUES (1, 'a'); UPDATE people SET name = 'b', id = 2; DELETE FROM people; TRUNCATE people`),
			map[string]int{"row": 8, "statement": 4, "change": 4}[level])
		require.Len(t, b.changes(`INSERT INTO docs VALUES ('a', '{"a":"\u0000"}'); UPDATE docs SET path = 'b'; DELETE FROM docs; TRUNCATE docs`), 4)
		b.do(`RESET ROLE; SELECT pghub.unwatch('people')`)
	}
}

// What everybody may do, and what he needs for the rest.
func TestPrivileges(t *testing.T) {
	b := setUp(t, "t", "people")
	role := b.role()
	b.do(people + `GRANT INSERT ON people TO ` + role + `; SET ROLE ` + role)
	require.Equal(t, []string{"e1"}, b.after(`SELECT pghub.notify('t', 1)`))
	require.Equal(t, "e", one[string](b, `SELECT pghub.encode(NULL, NULL)`))
	require.Zero(t, one[int](b, `SELECT count(*) FROM pghub.watches`))
	v, err := Version(t.Context(), b.conn)
	require.NoError(t, err)
	require.NotZero(t, v)

	b.fails("42501", "permission denied for table people", `SELECT pghub.watch('people')`)
	b.do(`RESET ROLE; GRANT TRIGGER ON people TO ` + role + `; SET ROLE ` + role)
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`), "TRIGGER is enough for a first watch")
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	b.fails("42501", "must be owner of relation people", `SELECT pghub.watch('people', level => 'change')`)
	b.fails("42501", "must be owner of relation people", `SELECT pghub.unwatch('people')`)
	require.Equal(t, "1", b.change(`INSERT INTO people VALUES (1, 'a')`).key)

	b.fails("42501", "permission denied", `INSERT INTO pghub.migrations (version) VALUES (99)`)
	b.fails("42501", "permission denied", `SELECT pghub.migrating(5)`)
	b.fails("42501", "permission denied", `CREATE TABLE pghub.mine (a int)`)
}

// Nothing in the schema lends its owner's rights, and every function has its search path fixed. A procedure that commits cannot: see TestHostileSearchPath.
// pghub.capture has none, to cost less: see TestCaptureTakesNothingFromTheSearchPath.
func TestFunctionsAreHarmless(t *testing.T) {
	b := setUp(t)
	require.Equal(t, []string{"capture", "capture_all", "compile", "sweep"}, one[[]string](b, `SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc p
		WHERE pronamespace = 'pghub'::regnamespace AND prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE')`),
		"these give nobody a power over a table, see 0005, and write events, see 0011; all others are for whom pghub.allow names")
	require.Zero(t, one[int](b, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'pghub'::regnamespace
		AND prokind <> 'p' AND proname <> 'capture' AND ('search_path=pg_catalog, pg_temp' <> ALL (proconfig) OR proconfig IS NULL)`))
	require.Zero(t, one[int](b, `SELECT count(*) FROM pg_proc p WHERE pronamespace = 'pghub'::regnamespace
		AND proname NOT IN ('migrating', 'check_columns') AND obj_description(p.oid, 'pg_proc') IS NULL`))
}
