package sql

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// builtin has a value of every type that comes with PostgreSQL and can be a column, and its JSON.
var builtin = []struct{ typ, value, json string }{
	{"smallint", "-32768", `-32768`},
	{"integer", "2147483647", `2147483647`},
	{"bigint", "9223372036854775807", `9223372036854775807`},
	{"numeric", "12345678901234567890.12345678901234567890", `12345678901234567890.12345678901234567890`},
	{"numeric", "NaN", `"NaN"`},
	{"numeric(8,3)", "1.5", `1.500`},
	{"real", "1.1", `1.1`},
	{"double precision", "0.1234567890123456789", `0.12345678901234568`},
	{"double precision", "-Infinity", `"-Infinity"`},
	{"double precision", "1e300", `1e+300`},
	{"money", "1234.5", `"$1,234.50"`},
	{"boolean", "t", `true`},
	{"text", "é \"\\ \t😀 <&>", `"é \"\\ \t😀 <&>"`},
	{"varchar(3)", "abc", `"abc"`},
	{"char(3)", "a", `"a  "`},
	{`"char"`, "x", `"x"`},
	{"name", "n", `"n"`},
	{"bytea", `\x00ff10`, `"\\x00ff10"`},
	{"date", "2024-02-29", `"2024-02-29"`},
	{"date", "infinity", `"infinity"`},
	{"time", "01:02:03.004", `"01:02:03.004"`},
	{"timetz", "01:02:03+02", `"01:02:03+02"`},
	{"timestamp", "2024-02-29 01:02:03.456789", `"2024-02-29T01:02:03.456789"`},
	{"timestamptz", "2024-02-29 01:02:03+02", `"2024-02-28T23:02:03+00:00"`},
	{"timestamptz", "-infinity", `"-infinity"`},
	{"interval", "1 year 2 days 03:04:05.6", `"1 year 2 days 03:04:05.6"`},
	{"uuid", "8C6F5D2E2B3F4A869C600F1A2B3C4D5E", `"8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e"`},
	{"json", `{"b": 1,  "a":[1.0, null]}`, `{"b":1,"a":[1.0,null]}`},
	{"jsonb", `{"b": 1,  "a":[1.0, null]}`, `{"a":[1.0,null],"b":1}`},
	{"jsonb", `null`, `null`},
	{"xml", `<a b="c"/>`, `"<a b=\"c\"/>"`},
	{"int[]", "{1,NULL,3}", `[1,null,3]`},
	{"int[]", "{{1,2},{3,4}}", `[[1,2],[3,4]]`},
	{"text[]", `{a,"b,\"c"}`, `["a","b,\"c"]`},
	{"timestamptz[]", "{2024-02-29 01:02:03+02}", `["2024-02-28T23:02:03+00:00"]`},
	{"mood", "so so", `"so so"`},
	{"mood[]", `{"so so",ok}`, `["so so","ok"]`},
	{"pair", `(1,"x ""y""")`, `{"n":1,"The Text":"x \"y\""}`},
	{"shout", "HEY", `"HEY"`},
	{"inet", "10.0.0.1/8", `"10.0.0.1/8"`},
	{"cidr", "10.0.0.0/8", `"10.0.0.0/8"`},
	{"macaddr", "08:00:2b:01:02:03", `"08:00:2b:01:02:03"`},
	{"macaddr8", "08:00:2b:01:02:03:04:05", `"08:00:2b:01:02:03:04:05"`},
	{"bit(3)", "101", `"101"`},
	{"varbit", "10101", `"10101"`},
	{"point", "(1,2)", `"(1,2)"`},
	{"line", "{1,2,3}", `"{1,2,3}"`},
	{"lseg", "[(1,2),(3,4)]", `"[(1,2),(3,4)]"`},
	{"box", "(3,4),(1,2)", `"(3,4),(1,2)"`},
	{"path", "((1,2),(3,4))", `"((1,2),(3,4))"`},
	{"polygon", "((1,2),(3,4))", `"((1,2),(3,4))"`},
	{"circle", "<(1,2),3>", `"<(1,2),3>"`},
	{"tsvector", "'a':1 'b'", `"'a':1 'b'"`},
	{"tsquery", "'a' & 'b'", `"'a' & 'b'"`},
	{"int4range", "[1,5)", `"[1,5)"`},
	{"numrange", "(1.5,)", `"(1.5,)"`},
	{"daterange", "[2024-01-02,2024-02-03)", `"[2024-01-02,2024-02-03)"`},
	{"tstzrange", `["2024-02-29 01:02:03+02",)`, `"[\"2024-02-28 23:02:03+00\",)"`},
	{"oid", "4294967295", `"4294967295"`},
	{"regclass", "pg_class", `"pg_class"`},
	{"regtype", "mood", `"public.mood"`},
	{"pg_lsn", "16/B374D848", `"16/B374D848"`},
	{"txid_snapshot", "10:20:10,14", `"10:20:10,14"`},
}

// The JSON of a row is the same whatever the session that writes it has set, and so it is where columns are chosen.
func TestTypes(t *testing.T) {
	b := setUp(t, "all", "some")
	b.do(`CREATE TYPE mood AS ENUM ('ok', 'so so'); CREATE TYPE pair AS (n int, "The Text" text); CREATE DOMAIN shout AS text CHECK (VALUE = upper(VALUE))`)
	var columns, values, nulls string
	for n, c := range builtin {
		columns += fmt.Sprintf(", c%d %s", n, c.typ)
		values += ", '" + strings.ReplaceAll(c.value, "'", "''") + "'"
		nulls += fmt.Sprintf(", c%d = NULL", n)
	}
	nulls = nulls[2:]
	for _, settings := range []string{
		``,
		`SET datestyle = 'German'; SET timezone = 'Asia/Kathmandu'; SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape';
		 SET extra_float_digits = -2; SET search_path = public, pg_catalog`,
	} {
		b.do(settings)
		b.do(`DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY` + columns + `);
			SELECT pghub.watch('t', topic => 'all', name => 'all'), pghub.watch('t', topic => 'some', name => 'some', exclude => '{id}', changed => true)`)
		for i, ev := range b.changes(`INSERT INTO t VALUES (1` + values + `)`) {
			var value struct{ Row map[string]json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(ev.text), &value))
			for n, c := range builtin {
				got := string(value.Row[fmt.Sprint("c", n)])
				require.JSONEq(t, c.json, got, "%s %s, event %d", c.typ, c.value, i)
				require.Equal(t, compact(t, c.json), compact(t, got), "%s %s, event %d", c.typ, c.value, i)
			}
		}
		for _, ev := range b.changes(`INSERT INTO t VALUES (2)`) {
			for n, c := range builtin {
				v, there := ev.Row[fmt.Sprint("c", n)]
				require.True(t, there && v == nil, "%s NULL", c.typ)
			}
		}
		for i, ev := range b.changes(`UPDATE t SET ` + nulls + ` WHERE id = 1`) {
			if i == 1 {
				require.Len(t, ev.Changed, len(builtin)-1, "all but the one that was JSON's null")
			}
		}
	}
	b.do(`RESET ALL`)
}

// compact takes out the blanks, puts members of objects in order and numbers with an exponent in one form.
func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	if n, number := v.(float64); number && n < 1e100 {
		return text // digit by digit; but jsonb writes exponents out
	}
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}
