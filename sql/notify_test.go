package sql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vectors of the wire format. The objects have their members in the order that jsonb and Go agree on.
var vectors = []struct {
	key     []int64
	value   any // a JSON text, or nil
	payload string
}{
	{nil, nil, `e`},
	{[]int64{}, nil, `e`},
	{[]int64{1, 2, 3, 4}, nil, `e1,2,3,4`},
	{[]int64{5}, `{}`, `e5:{}`},
	{[]int64{0}, `[]`, `e0:[]`},
	{nil, `{"a":2,"b":{"d":1,"e":"$$"}}`, `e:{"a":2,"b":{"d":1,"e":"$$"}}`},
	{[]int64{-9223372036854775808, 9223372036854775807}, `"John Malkovich?"`, `e-9223372036854775808,9223372036854775807:"John Malkovich?"`},
	{nil, `null`, `e`},
	{[]int64{7}, `null`, `e7`},
	{[]int64{-1}, `true`, `e-1:true`},
	{nil, `12.50`, `e:12.50`},
	{nil, `[1,null,"null",{"a":null}]`, `e:[1,null,"null",{"a":null}]`},
	{nil, `{"a":null,"b":", : \" \\","c":[{},[],{"d":[1,[2,[3]]]}]}`, `e:{"a":null,"b":", : \" \\","c":[{},[],{"d":[1,[2,[3]]]}]}`},
	{nil, `{"a: ":"x, y: z","k\\\"":["\\\\",": \\\", "]}`, `e:{"a: ":"x, y: z","k\\\"":["\\\\",": \\\", "]}`},
	{nil, `"é ü 😀 <b>&amp;</b>"`, `e:"é ü 😀 <b>&amp;</b>"`},
	{nil, `"\b\f\n\r\t\u0001\u001f/"`, `e:"\b\f\n\r\t\u0001\u001f/"`},
	{nil, `""`, `e:""`},
	{nil, `" "`, `e:" "`},
}

func TestEncode(t *testing.T) {
	b := setUp(t)
	for _, v := range vectors {
		require.Equal(t, v.payload, one[string](b, "SELECT pghub.encode($1::bigint[], $2::text::jsonb)", v.key, v.value))
	}
	require.Equal(t, "e1,2", one[string](b, "SELECT pghub.encode(array[1,2], NULL)"))
	b.fails("22023", "key {1,NULL} is not a list of integers", "SELECT pghub.encode('{1,NULL}', NULL)")
	b.fails("22023", "is not a list of integers", "SELECT pghub.encode('{{1,2},{3,4}}', NULL)")
}

// Both ways of taking the blanks out of jsonb's text do exactly what json.Compact does.
func TestEncodeCompactsAnyJSON(t *testing.T) {
	b := setUp(t)
	random := rand.New(rand.NewPCG(4, 2))
	for i := range 2000 {
		text, err := json.Marshal(randomJSON(random, 4, i%2 == 0))
		require.NoError(t, err)
		var want bytes.Buffer
		require.NoError(t, json.Compact(&want, []byte(one[string](b, "SELECT $1::text::jsonb::text", string(text)))))
		if want.String() == "null" {
			continue
		}
		require.Equal(t, "e:"+want.String(), one[string](b, "SELECT pghub.encode(NULL, $1::text::jsonb)", string(text)))
	}
}

func randomJSON(r *rand.Rand, depth int, nulls bool) any {
	kind := r.IntN(6)
	if depth == 0 {
		kind = r.IntN(4)
	}
	switch kind {
	case 0:
		if nulls {
			return nil
		}
		return r.IntN(2) == 0
	case 1:
		return r.NormFloat64()
	case 2, 3:
		return randomText(r)
	case 4:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomJSON(r, depth-1, nulls)
		}
		return list
	default:
		object := map[string]any{}
		for range r.IntN(4) {
			object[randomText(r)] = randomJSON(r, depth-1, nulls)
		}
		return object
	}
}

func randomText(r *rand.Rand) string {
	parts := []string{": ", ", ", `"`, `\`, "{", "]", " ", "null", "a", "\n", "\u0001", "é", "😀", "<", "\u2028", "\x7f"}
	var s strings.Builder
	for range r.IntN(6) {
		s.WriteString(parts[r.IntN(len(parts))])
	}
	return s.String()
}

func TestNotifyReadsWell(t *testing.T) {
	b := setUp(t, "topic1")
	for call, payload := range map[string]string{
		`pghub.notify('topic1')`:                                     `e`,
		`pghub.notify('topic1', 42)`:                                 `e42`,
		`pghub.notify('topic1', 42::smallint)`:                       `e42`,
		`pghub.notify('topic1', count(*)) FROM pghub.migrations`:     `e16`,
		`pghub.notify('topic1', 42, '{"a":1}')`:                      `e42:{"a":1}`,
		`pghub.notify('topic1', array[1,2])`:                         `e1,2`,
		`pghub.notify('topic1', array[1,2], '{"a":1}')`:              `e1,2:{"a":1}`,
		`pghub.notify('topic1', '{1,2}', '{"a":1}')`:                 `e1,2:{"a":1}`,
		`pghub.notify('topic1', null)`:                               `e`,
		`pghub.notify('topic1', null, '{"a": [1, null]}')`:           `e:{"a":[1,null]}`,
		`pghub.notify('topic1', value => '"x"')`:                     `e:"x"`,
		`pghub.notify(topic => 'topic1', key => 1, value => '"x"')`:  `e1:"x"`,
		`pghub.notify('topic1', 1, to_jsonb(r)) FROM (SELECT 1 a) r`: `e1:{"a":1}`,
		`pghub.notify('topic1', array[1], null)`:                     `e1`,
		`pghub.notify('topic1', '42')`:                               `e42`,
		`pghub.notify('topic1', '42', '{"a":1}'::json)`:              `e42:{"a":1}`,
		`pghub.notify('topic1', 42, '{"a":1}'::json)`:                `e42:{"a":1}`,
		`pghub.notify('topic1', 42, '{"a":1}'::text)`:                `e42:{"a":1}`,
		`pghub.notify('topic1', array[1,2], '{"a":1}'::json)`:        `e1,2:{"a":1}`,
		`pghub.notify('topic1', null, '{"a":1}'::json)`:              `e:{"a":1}`,
	} {
		require.Equal(t, []string{payload}, b.after("SELECT "+call), call)
	}
}

func TestNotifyLimits(t *testing.T) {
	b := setUp(t)
	b.fails("22023", "topic '' has 0 bytes; a topic has 1 to 63", "SELECT pghub.notify('')")
	b.fails("22023", "topic NULL has 0 bytes; a topic has 1 to 63", "SELECT pghub.notify(NULL)")
	b.fails("22023", "has 64 bytes; a topic has 1 to 63", "SELECT pghub.notify(repeat('é', 32))")
	b.do("SELECT pghub.notify(repeat('é', 31) || 'x')")

	b.do(`SELECT pghub.notify('t', 1, to_jsonb(repeat('x', 7994)))`)
	b.fails("22023", "payload for topic 't' has 8000 bytes; the limit is 7999", `SELECT pghub.notify('t', 1, to_jsonb(repeat('x', 7995)))`)
	b.fails("22023", "payload for topic 't' has 8002 bytes; the limit is 7999", `SELECT pghub.notify('t', null, to_jsonb(repeat('é', 3999)))`)
	b.fails("22023", "is not a list of integers", "SELECT pghub.notify('t', null::bigint)")
	b.fails("22023", "key 'x' is neither an integer, nor an array of integers", "SELECT pghub.notify('t', 'x')")
	b.fails("22P02", "invalid input syntax for type json", "SELECT pghub.notify('t', 1, 'x')")
}

// A schema in front of the search path that has its own idea of every function and operator changes nothing.
func TestHostileSearchPath(t *testing.T) {
	b := setUp(t, "people", "t")
	b.do(`CREATE SCHEMA evil;
		CREATE FUNCTION evil.bad(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.bad(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.cardinality(anyarray) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.pg_sleep(float8) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE OPERATOR evil.= (FUNCTION = evil.bad, LEFTARG = int, RIGHTARG = int);
		CREATE OPERATOR evil.> (FUNCTION = evil.bad, LEFTARG = int, RIGHTARG = int);
		CREATE OPERATOR evil.|| (FUNCTION = evil.bad, LEFTARG = text, RIGHTARG = text);
		CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.boolean AS int;
		CREATE TABLE evil.people (id int PRIMARY KEY);
		SET search_path = evil, pg_catalog, public`)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	require.NoError(t, Install(t.Context(), b.conn))
	require.Equal(t, "evil, pg_catalog, public", one[string](b, "SHOW search_path"))

	b.do("SELECT pghub.notify('t', array[1,2], '{\"a\":null}')")
	for _, level := range []string{"row", "statement", "change"} {
		b.do(fmt.Sprintf("SELECT pghub.watch('people', level => '%s')", level))
		b.do("INSERT INTO people VALUES (1), (2); UPDATE people SET id = -id; DELETE FROM people; TRUNCATE people")
		b.do("SELECT pghub.mute('people')")
		b.do("CALL pghub.unmute('people')")
	}
	b.do("SELECT pghub.unwatch('people')")
	b.do("SET search_path = public")
	require.NotEmpty(t, b.heard())
	b.do("SET search_path = evil, pg_catalog, public")
	require.NoError(t, Uninstall(t.Context(), b.conn))
	b.do("RESET search_path")
}
