package sql

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func (b *bench) version() int {
	return one[int](b, "SELECT current_setting('server_version_num')::int") / 10000
}

// The key is what is an integer when the row is written, not when it was watched: else whoever writes a text forges keys.
func TestRowKeyRetyped(t *testing.T) {
	for _, c := range []struct{ from, to, value, key string }{
		{"int", "text", `'8:{}'`, ""},
		{"int", "text", `'abc'`, ""},
		{"int", "numeric", `8`, ""},
		{"int", "uuid USING '8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e'::uuid", `'8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d50'`, ""},
		{"int", "bigint", `9223372036854775807`, "9223372036854775807"},
		{"text", "int USING a::int", `7`, "7"},
		{"numeric", "bigint", `7`, "7"},
	} {
		for _, level := range []string{"row", "statement"} {
			b := setUp(t, "t")
			b.do(`CREATE TABLE t (a ` + c.from + ` PRIMARY KEY, v int); SELECT pghub.watch('t', level => $$` + level + `$$);
				INSERT INTO t VALUES ('1'); ALTER TABLE t ALTER a TYPE ` + c.to)
			b.heard()
			for round := range 2 {
				require.Equal(t, c.key, b.change(`INSERT INTO t VALUES (`+c.value+`)`).key, "%v %s", c, level)
				require.Equal(t, c.key, b.change(`DELETE FROM t WHERE a = `+c.value).key)
				if round == 0 {
					require.True(t, one[bool](b, `SELECT pghub.watch('t', level => $1)`, level), "the definition says what is an integer")
				}
			}
		}
	}
}

// The primary key may move to other columns, and columns may change names, also with each other.
func TestRowKeyMoved(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (a bigint PRIMARY KEY, b bigint NOT NULL, c text); SELECT pghub.watch('t');
		INSERT INTO t VALUES (1, 2, 'x'); ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT t_pkey PRIMARY KEY (b)`)
	b.heard()
	require.Equal(t, "2", b.change(`UPDATE t SET c = 'y'`).key)
	b.do(`ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME a TO b; ALTER TABLE t RENAME x TO a`)
	c := b.change(`UPDATE t SET c = 'z'`)
	require.Equal(t, "2", c.key)
	require.Equal(t, json.Number("2"), c.ID["a"])
	b.do(`ALTER TABLE t DROP CONSTRAINT t_pkey`)
	require.Empty(t, b.change(`UPDATE t SET c = 'z'`).ID)
	b.do(`SELECT pghub.watch('t'); ALTER TABLE t ADD PRIMARY KEY (b)`)
	require.Equal(t, "1", b.change(`UPDATE t SET c = 'z'`).key, "a key that came later")
	require.True(t, one[bool](b, `SELECT pghub.watch('t')`))
	b.do(`REINDEX TABLE CONCURRENTLY t`)
	c = b.change(`UPDATE t SET c = 'z'`)
	require.Equal(t, "1", c.key, "an index of another number")
	require.NotNil(t, c.Row)

	// Columns may change names with the key where that is the first.
	b.do(`DROP TABLE t; CREATE TABLE t (a bigint PRIMARY KEY, b bigint); SELECT pghub.watch('t');
		INSERT INTO t VALUES (1, 2); ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b`)
	b.heard()
	require.Equal(t, "1", b.change(`UPDATE t SET a = 3`).key)
}

// An update that changes the key names the old one among integers too.
func TestRowOldKey(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (a int, b text, c bigint, PRIMARY KEY (a, b, c)); SELECT pghub.watch('t'); INSERT INTO t VALUES (1, 'x', 2)`)
	b.heard()
	c := b.change(`UPDATE t SET c = 3`)
	require.Equal(t, "1,3", c.key)
	require.Equal(t, []int64{1, 2}, c.OldKey)
	require.Nil(t, b.change(`UPDATE t SET b = 'y'`).OldKey)
	c = b.change(`UPDATE t SET b = repeat('y', 2000) || repeat('z', 6000), c = 4`)
	require.True(t, c.Truncated)
	require.Equal(t, []int64{1, 3}, c.OldKey)
}

// What is excluded is not announced under a new name, nor what has taken the name of something announced.
func TestExcludedColumnsStayOutByNumber(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (id int PRIMARY KEY, a text, secret text); INSERT INTO t VALUES (1, 'a', 'hush');
		SELECT pghub.watch('t', exclude => '{secret}', old => true, changed => true)`)
	require.Equal(t, map[string]any{"id": json.Number("1"), "a": "a"}, b.change(`UPDATE t SET id = 1`).Row)

	b.do(`ALTER TABLE t RENAME secret TO password`)
	require.Equal(t, map[string]any{"id": json.Number("1"), "a": "a"}, b.change(`UPDATE t SET id = 1`).Row)

	b.do(`ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME password TO a`)
	for _, statement := range []string{`UPDATE t SET a = 'hush'`, `DELETE FROM t`, `INSERT INTO t VALUES (1, 'x', 'hush')`} {
		c := b.change(statement)
		require.NotContains(t, c.text, "hush")
		require.True(t, c.Truncated)
		require.Equal(t, "1", c.key)
	}

	// Nor is it when the key was renamed too, so that the long way is taken.
	b.do(`ALTER TABLE t RENAME x TO b; SELECT pghub.watch('t', exclude => '{a}'); ALTER TABLE t RENAME id TO "Id"; ALTER TABLE t RENAME a TO c`)
	c := b.change(`UPDATE t SET c = 'hush'`)
	require.NotContains(t, c.text, "hush")
	require.Equal(t, "1", c.key)
	b.do(`ALTER TABLE t DROP b; SELECT pghub.watch('t', exclude => '{c}'); ALTER TABLE t ADD d text; ALTER TABLE t DROP c`)
	require.Equal(t, map[string]any{"Id": json.Number("1")}, b.change(`UPDATE t SET d = 'new'`).Row)
	b.do(`SELECT pghub.watch('t', include => '{d}'); ALTER TABLE t DROP d`)
	require.Empty(t, b.change(`UPDATE t SET "Id" = 1`).Row)
}

// A column of an index's INCLUDE is no key, on the long way either.
func TestRowIncludedColumnsAreNoKey(t *testing.T) {
	b := setUp(t, "t")
	for _, level := range []string{"row", "statement"} {
		b.do(`CREATE TABLE t (a int, b int, PRIMARY KEY (a) INCLUDE (b)); SELECT pghub.watch('t', level => '` + level + `'); ALTER TABLE t RENAME a TO "A"`)
		c := b.change(`INSERT INTO t VALUES (1, 2)`)
		require.Equal(t, "1", c.key)
		if level == "row" {
			require.Equal(t, map[string]any{"A": json.Number("1")}, c.ID)
		}
		b.do(`DROP TABLE t`)
	}
}

// Virtual generated columns are never announced, and keep no other column from being so.
func TestVirtualColumnsOfLater(t *testing.T) {
	b := setUp(t, "g")
	if b.version() < 18 {
		return // there are none
	}
	b.do(`CREATE TABLE g (id int PRIMARY KEY, a int, n int); SELECT pghub.watch('g', old => true, changed => true);
		ALTER TABLE g ADD double int GENERATED ALWAYS AS (a * 2) VIRTUAL`)
	c := b.change(`INSERT INTO g (id, a) VALUES (1, 3)`)
	require.Equal(t, map[string]any{"id": json.Number("1"), "a": json.Number("3"), "n": nil}, c.Row)
	b.do(`SELECT pghub.watch('g', old => true, changed => true); ALTER TABLE g ADD later text DEFAULT 'x'`)
	c = b.change(`UPDATE g SET a = 4`)
	require.Equal(t, map[string]any{"id": json.Number("1"), "a": json.Number("4"), "n": nil, "later": "x"}, c.Row)
	require.NotContains(t, c.Old, "double")
	require.Equal(t, []string{"a"}, c.Changed)
}

// Two tables that inherit may have a row of one key each: it is named once.
func TestStatementInheritedKeysOnce(t *testing.T) {
	b := setUp(t, "parent")
	b.do(`CREATE TABLE parent (id int PRIMARY KEY, v int); SELECT pghub.watch('parent', level => 'statement');
		CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); INSERT INTO parent VALUES (7); INSERT INTO child VALUES (7), (8)`)
	b.heard()
	require.ElementsMatch(t, []string{"7", "8"}, rowsOf(t, b.changes(`UPDATE parent SET v = 1`), 1))
	require.ElementsMatch(t, []string{"7", "8"}, rowsOf(t, b.changes(`DELETE FROM parent`), 1))
}

// Tables altered at random between writes: each event is right about the row, whether or not watch was called since.
func TestPropertyAlteredTables(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := setUp(t, "t")
			random := rand.New(rand.NewPCG(seed, 3))
			exclude, watch := "", `SELECT pghub.watch('t', old => true)`
			if seed%3 == 2 {
				exclude, watch = "secret", `SELECT pghub.watch('t', exclude => '{secret}')`
			}
			b.do(`CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL DEFAULT 0, b text DEFAULT 'b', secret text DEFAULT 'hush'); ` + watch)
			columns := func() []string {
				return one[[]string](b, `SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped`)
			}
			quote := func(name string) string { return one[string](b, `SELECT quote_ident($1)`, name) }
			next := 0
			for step := range 60 {
				all := columns()
				column := all[random.IntN(len(all))]
				next++
				ddl := ""
				switch random.IntN(7) {
				case 0:
					ddl = fmt.Sprintf(`ALTER TABLE t ADD "c %d%%s" %s`, next, []string{"int DEFAULT 5", "text DEFAULT 'new'", "timestamptz DEFAULT now()"}[random.IntN(3)])
				case 1:
					ddl = fmt.Sprintf(`ALTER TABLE t RENAME %s TO "r%d"`, quote(column), next)
				case 2:
					if other := all[random.IntN(len(all))]; other != column { // they change names
						ddl = fmt.Sprintf(`ALTER TABLE t RENAME %[1]s TO between; ALTER TABLE t RENAME %[2]s TO %[1]s; ALTER TABLE t RENAME between TO %[2]s`, quote(column), quote(other))
					}
				case 3:
					ddl = fmt.Sprintf(`ALTER TABLE t ALTER %[1]s DROP DEFAULT, ALTER %[1]s TYPE %[2]s USING length(%[1]s::text)::%[2]s`, quote(column), []string{"text", "bigint", "numeric"}[random.IntN(3)])
				case 4:
					ddl = `ALTER TABLE t DROP ` + quote(column)
				case 5: // the key moves, or goes
					ddl = `ALTER TABLE t DROP CONSTRAINT IF EXISTS t_pkey`
					if random.IntN(4) > 0 {
						ddl += fmt.Sprintf(`, ADD CONSTRAINT t_pkey PRIMARY KEY (%s)`, quote(column))
					}
				default:
					if exclude == "" {
						b.do(watch)
					}
				}
				if len(all) < 3 && strings.Contains(ddl, "DROP") {
					continue
				}
				b.do(`TRUNCATE t`)
				if ddl != "" {
					b.do(ddl)
				}
				b.heard()
				// A row with a value of its own in every column, as text that every type here takes.
				all = columns()
				var names, values []string
				for i, name := range all {
					names = append(names, quote(name))
					value := fmt.Sprint(1000*step + i)
					if one[string](b, `SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = $1`, name) == "timestamp with time zone" {
						value = "2024-01-02 03:04:05+00"
					}
					values = append(values, "'"+value+"'")
				}
				list := b.changes(`INSERT INTO t (` + strings.Join(names, ",") + `) VALUES (` + strings.Join(values, ",") + `); UPDATE t SET ` + names[0] + ` = ` + names[0] + `; DELETE FROM t`)
				require.Len(t, list, 3, ddl)
				b.do(`INSERT INTO t (` + strings.Join(names, ",") + `) VALUES (` + strings.Join(values, ",") + `)`)
				b.heard()
				wantKey := one[string](b, keyOfRow)
				row := one[string](b, `SELECT row_to_json(t)::text FROM (SELECT set_config('timezone', 'UTC', false)) s, t`)
				hidden := one[*string](b, `SELECT max(to_jsonb(t) ->> (SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum = 4 AND NOT attisdropped)) FROM t`)
				for _, c := range list {
					require.Equal(t, wantKey, c.key+"|"+canonicalJSON(t, c.ID), "step %d: %s, then %s", step, ddl, c.text)
					switch {
					case exclude == "":
						require.False(t, c.Truncated, "%s: %s", ddl, c.text)
						require.Equal(t, canonicalJSON(t, json.RawMessage(row)), canonicalJSON(t, c.Row), "step %d: %s", step, ddl)
					case hidden != nil && slices.Contains(valuesOf(c.Row), *hidden):
						require.Fail(t, "the excluded column was announced", "step %d: %s, then %s", step, ddl, c.text)
					}
				}
			}
		})
	}
}

// keyOfRow is a query for the key and the id of the only row of t as events have it.
const keyOfRow = `WITH pk AS (
	SELECT k.n, a.attname, format_type(a.atttypid, NULL) IN ('integer', 'bigint') AS int FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, n), pg_attribute a
	WHERE i.indrelid = 't'::regclass AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum)
	SELECT coalesce((SELECT string_agg(to_jsonb(t) ->> attname, ',' ORDER BY n) FROM pk WHERE int), '') || '|'
		|| coalesce((SELECT jsonb_object_agg(attname, to_jsonb(t) -> attname)::text FROM pk), 'null') FROM t`

func canonicalJSON(t testing.TB, v any) string {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var list map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &list))
	if list == nil {
		return "null"
	}
	var parts []string
	for name, value := range list {
		parts = append(parts, fmt.Sprintf("%q: %s", name, value))
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}

func valuesOf(row map[string]any) (values []string) {
	for _, v := range row {
		values = append(values, fmt.Sprint(v))
	}
	return values
}
