package sql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// pghub.capture has the rights of its owner and the search path of whoever writes: so nothing that it names may be found by that.
func TestCaptureTakesNothingFromTheSearchPath(t *testing.T) {
	b := setUp(t)
	b.do(`CREATE TABLE people (id int PRIMARY KEY, name text);
		SELECT pghub.watch('people', durable => true);
		CREATE SCHEMA evil; SET search_path = evil, pg_catalog`)
	for _, function := range []string{
		"octet_length(pg_catalog.text) RETURNS int", "array_ndims(anyarray) RETURNS int", "array_position(bigint[], bigint) RETURNS int",
		"pg_sequence_last_value(regclass) RETURNS bigint",
		"pg_try_advisory_xact_lock_shared(int, int) RETURNS pg_catalog.bool", "nextval(regclass) RETURNS bigint", "clock_timestamp() RETURNS timestamptz",
		"pg_current_xact_id() RETURNS xid8", "string_to_array(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.text[]", "bad(int, int) RETURNS pg_catalog.bool",
		"bad(bigint, int) RETURNS pg_catalog.bool", "refuse(pg_catalog.text) RETURNS pg_catalog.text",
	} {
		b.do(fmt.Sprintf(`CREATE FUNCTION evil.%s LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END'`, function))
	}
	for _, operator := range []string{"=", "<", ">"} {
		for _, left := range []string{"int", "bigint"} {
			b.do(fmt.Sprintf(`CREATE OPERATOR evil.%s (FUNCTION = evil.bad, LEFTARG = %s, RIGHTARG = int)`, operator, left))
		}
	}
	b.do(`CREATE DOMAIN evil.json AS int; CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.int8 AS int; CREATE DOMAIN evil.bool AS int; CREATE DOMAIN evil.regclass AS int`)
	for part := range 3 {
		b.do(`SELECT setval('pghub.log_table', $1)`, part)
		b.do(`SELECT pghub.capture('a', ARRAY[$1::int], '{"a":1}', NULL)`, part)
		b.do(`SELECT pghub.capture('b', '{}', NULL, '{"h":"x"}')`)
		b.do(`INSERT INTO public.people VALUES ($1, 'Ada')`, part)
		require.Equal(t, []string{"a", "b", "people"}, one[[]string](b, fmt.Sprintf(`SELECT array_agg(topic ORDER BY id) FROM ONLY pghub.log_%d`, part)))
		require.Equal(t, []string{fmt.Sprintf("{%d}", part), "none", fmt.Sprintf("{%d}", part)}, one[[]string](b,
			fmt.Sprintf(`SELECT array_agg(coalesce(key::pg_catalog.text, 'none') ORDER BY id) FROM ONLY pghub.log_%d`, part)))
	}
	b.fails("22023", "topic ''", `SELECT pghub.capture('', NULL, '1', NULL)`)
	b.fails("22023", "a key is a list of integers", `SELECT pghub.capture('a', '{1,NULL}', '1', NULL)`)
	b.fails("22023", "a key is a list of integers", `SELECT pghub.capture('a', '{{1,2},{3,4}}', '1', NULL)`)
	b.fails("22P02", "invalid input syntax for type json", `SELECT pghub.capture('a', NULL, '{', NULL)`)
}
