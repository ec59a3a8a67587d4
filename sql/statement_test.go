package sql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatementToTheLetter(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', level => 'statement')`)
	for _, step := range []struct{ sql, payload string }{
		{`INSERT INTO people SELECT i, 'x' FROM generate_series(1, 3) i`, `e1,2,3:{"op":"insert","schema":"public","table":"people","count":3,"seq":1,"part":1,"parts":1}`},
		{`UPDATE people SET name = 'y' WHERE id > 1`, `e2,3:{"op":"update","schema":"public","table":"people","count":2,"seq":1,"part":1,"parts":1}`},
		{`UPDATE people SET id = id + 10 WHERE id = 3`, `e13,3:{"op":"update","schema":"public","table":"people","count":1,"seq":1,"part":1,"parts":1}`},
		{`DELETE FROM people WHERE id = 13`, `e13:{"op":"delete","schema":"public","table":"people","count":1,"seq":1,"part":1,"parts":1}`},
		{`TRUNCATE people`, `e:{"op":"truncate","schema":"public","table":"people","seq":1,"part":1,"parts":1}`},
	} {
		require.Equal(t, []string{step.payload}, b.after(step.sql))
	}
	require.Empty(t, b.after(`DELETE FROM people; UPDATE people SET name = 'z'; INSERT INTO people SELECT 1, 'x' WHERE false`), "no row, no event")
}

func TestStatementEqualOnesInOneTransaction(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', level => 'statement')`)
	var ops []string
	for i, c := range b.changes(`INSERT INTO people VALUES (1, 'a'); DELETE FROM people; INSERT INTO people VALUES (1, 'a')`) {
		require.EqualValues(t, i+1, c.Seq)
		ops = append(ops, c.Op)
	}
	require.Equal(t, []string{"insert", "delete", "insert"}, ops)
}

// All keys arrive, each once, in events that are as full as they can be.
func TestStatementSplits(t *testing.T) {
	b := setUp(t, "t")
	for _, c := range []struct {
		name, columns, row string
		width              int
	}{
		{"bigint", `a bigint PRIMARY KEY`, `i * 1000000000000000`, 1},
		{"of two", `a int, b bigint, PRIMARY KEY (b, a)`, `-i, i * 7`, 2},
		{"text", `a text PRIMARY KEY`, `repeat('"', i % 50) || i`, 0},
		{"uuid and int", `a uuid, b int, PRIMARY KEY (a, b)`, `md5(i::text)::uuid, i`, 0},
	} {
		for _, rows := range []int{1, 2, 300, 5000} {
			b.do(`DROP TABLE IF EXISTS t; CREATE TABLE t (` + c.columns + `); SELECT pghub.watch('t', level => 'statement')`)
			list := b.changes(fmt.Sprintf(`INSERT INTO t SELECT %s FROM generate_series(1, %d) i`, c.row, rows))
			for i, ev := range list {
				require.EqualValues(t, rows, *ev.Count)
				require.Equal(t, []int{i + 1, len(list), i + 1}, []int{ev.Part, ev.Parts, int(ev.Seq)})
				size := len(ev.key) + len(ev.text) + 2
				require.True(t, i == len(list)-1 || size > 7500, "event %d of %d has %d bytes", i+1, len(list), size)
			}
			got := rowsOf(t, list, c.width)
			want := one[[]string](b, keysSQL(c.width, "t"))
			require.ElementsMatch(t, want, got, "%s %d", c.name, rows)
		}
	}
}

// rowsOf returns the rows that statement events name: keys of width integers, or ids where width is 0.
func rowsOf(t testing.TB, list []change, width int) (rows []string) {
	for _, ev := range list {
		if width == 0 {
			require.Empty(t, ev.key)
			for _, id := range ev.IDs {
				rows = append(rows, canonical(id))
			}
			continue
		}
		require.Equal(t, max(ev.Width, 1), width)
		keys := strings.Split(ev.key, ",")
		require.Zero(t, len(keys)%width)
		for row := range slices.Chunk(keys, width) {
			rows = append(rows, strings.Join(row, ","))
		}
	}
	return rows
}

func canonical(id map[string]any) string { return fmt.Sprint(id) } // fmt sorts the keys

// keysSQL is a query for the rows of a table as rowsOf returns them.
func keysSQL(width int, table string) string {
	if width > 0 {
		return `SELECT array_agg(concat_ws(',', ` + map[int]string{1: "a", 2: "b, a"}[width] + `)) FROM ` + table
	}
	return `SELECT array_agg('map[' || (SELECT string_agg(key || ':' || value, ' ' ORDER BY key) FROM jsonb_each_text(to_jsonb(r))) || ']') FROM ` + table + ` r`
}

func TestStatementKeys(t *testing.T) {
	b := setUp(t, "t")
	for _, c := range []struct{ columns, row, payload string }{
		{`a int, b int`, `1, 2`, `e:{"op":"insert","schema":"public","table":"t","count":1,"seq":1,"part":1,"parts":1}`},
		{`a int, b int, PRIMARY KEY (b, a)`, `1, 2`, `e2,1:{"op":"insert","schema":"public","table":"t","width":2,"count":1,"seq":1,"part":1,"parts":1}`},
		{`"A ""b" text PRIMARY KEY`, `'x"'`, `e:{"op":"insert","schema":"public","table":"t","count":1,"seq":1,"part":1,"parts":1,"ids":[{"A \"b":"x\""}]}`},
		{
			`"Id" int, b uuid, PRIMARY KEY ("Id", b)`, `1, '8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e'`,
			`e:{"op":"insert","schema":"public","table":"t","count":1,"seq":1,"part":1,"parts":1,"ids":[{"Id":1,"b":"8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e"}]}`,
		},
		{`a int, b int, PRIMARY KEY (a) INCLUDE (b)`, `1, 2`, `e1:{"op":"insert","schema":"public","table":"t","count":1,"seq":1,"part":1,"parts":1}`},
		{
			`k text, x int, y text, pghub_new int, PRIMARY KEY (k, x, y, pghub_new)`, `'a', 1, 'b', 2`,
			`e:{"op":"insert","schema":"public","table":"t","count":1,"seq":1,"part":1,"parts":1,"ids":[{"k":"a","x":1,"y":"b","pghub_new":2}]}`,
		},
	} {
		b.do(`DROP TABLE IF EXISTS t; CREATE TABLE t (` + c.columns + `); SELECT pghub.watch('t', level => 'statement')`)
		require.Equal(t, []string{c.payload}, b.after(`INSERT INTO t VALUES (`+c.row+`)`))
	}
}

// An id that no event can hold is the only thing that is left out, and the events say so.
func TestStatementIDTooLarge(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (a text PRIMARY KEY); SELECT pghub.watch('t', level => 'statement')`)
	c := b.change(`INSERT INTO t VALUES ('x'), (repeat('y', 9000)), ('z')`)
	require.True(t, c.Truncated)
	require.EqualValues(t, 3, *c.Count)
	require.Equal(t, []map[string]any{{"a": "x"}, {"a": "z"}}, c.IDs)

	c = b.change(`DELETE FROM t WHERE length(a) > 1`)
	require.True(t, c.Truncated)
	require.Empty(t, c.IDs)

	list := b.changes(`INSERT INTO t SELECT repeat(i::text, 7000) FROM generate_series(1, 5) i`)
	require.Len(t, list, 5, "the largest that fit take an event each")
	require.False(t, list[0].Truncated)
}

func TestStatementPrimaryKeyUpdates(t *testing.T) {
	b := setUp(t, "t")
	b.do(`CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 2000) i;
		SELECT pghub.watch('t', level => 'statement')`)
	want := map[string]bool{}
	for i := 1; i <= 3000; i++ {
		want[strconv.Itoa(i)] = true
	}
	rows := rowsOf(t, b.changes(`UPDATE t SET a = a + 1000`), 1)
	require.Len(t, rows, 3000, "old and new, each once")
	for _, row := range rows {
		require.True(t, want[row], row)
	}

	b.do(`DROP TABLE t; CREATE TABLE t (a text COLLATE "C" PRIMARY KEY); INSERT INTO t VALUES ('x'), ('y'); SELECT pghub.watch('t', level => 'statement')`)
	require.Equal(t, []map[string]any{{"a": "xx"}, {"a": "yy"}, {"a": "x"}, {"a": "y"}}, b.change(`UPDATE t SET a = a || a`).IDs)
}

// One statement may insert, update and delete.
func TestStatementUpsertMergeAndWith(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `INSERT INTO people VALUES (1, 'a'), (2, 'b'); SELECT pghub.watch('people', level => 'statement')`)
	summary := func(sql string) (got []string) {
		for _, c := range b.changes(sql) {
			got = append(got, c.Op+" "+c.key)
		}
		return got
	}
	require.ElementsMatch(t, []string{"insert 3", "update 2"},
		summary(`INSERT INTO people VALUES (2, 'x'), (3, 'x') ON CONFLICT (id) DO UPDATE SET name = 'x'`))
	require.Empty(t, summary(`INSERT INTO people VALUES (2, 'x') ON CONFLICT DO NOTHING`))
	require.ElementsMatch(t, []string{"insert 4", "delete 1"},
		summary(`WITH gone AS (DELETE FROM people WHERE id = 1 RETURNING *) INSERT INTO people SELECT 4, name FROM gone`))
	if one[int](b, "SELECT current_setting('server_version_num')::int") >= 150000 {
		require.ElementsMatch(t, []string{"insert 9", "update 2", "delete 3"}, summary(`MERGE INTO people p
			USING (VALUES (2), (3), (9)) v(id) ON p.id = v.id
			WHEN MATCHED AND v.id = 3 THEN DELETE
			WHEN MATCHED THEN UPDATE SET name = 'm'
			WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, 'm')`))
	}
}

func TestStatementCopyAndCascade(t *testing.T) {
	b := setUp(t, "people", "pets")
	b.do(people + `CREATE TABLE pets (id int PRIMARY KEY, owner int REFERENCES people ON DELETE CASCADE);
		SELECT pghub.watch('people', level => 'statement'), pghub.watch('pets', level => 'statement')`)
	_, err := b.conn.PgConn().CopyFrom(t.Context(), strings.NewReader("1\tAnn\n2\tBob\n"), "COPY people (id, name) FROM STDIN")
	require.NoError(t, err)
	require.Equal(t, "1,2", parse(t, b.heard()[0]).key)
	b.do(`INSERT INTO pets VALUES (10, 1), (11, 1), (12, 2)`)
	b.heard()
	var got []string
	for _, c := range b.changes(`DELETE FROM people WHERE id = 1`) {
		got = append(got, c.Table+" "+c.key)
	}
	require.ElementsMatch(t, []string{"people 1", "pets 10,11"}, got)
	got = nil
	for _, c := range b.changes(`TRUNCATE people CASCADE`) {
		got = append(got, c.Op+" "+c.Table)
	}
	require.ElementsMatch(t, []string{"truncate people", "truncate pets"}, got)
}

func TestStatementPartitionedAndInherited(t *testing.T) {
	b := setUp(t, "parts", "parent")
	b.do(`CREATE TABLE parts (id int, tenant int, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
		CREATE TABLE parts_2 (tenant int NOT NULL, id int NOT NULL);
		ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
		SELECT pghub.watch('parts', level => 'statement'), pghub.watch('parent', level => 'statement')`)
	require.ElementsMatch(t, []string{"1,5", "2,6"}, rowsOf(t, b.changes(`INSERT INTO parts VALUES (5, 1), (6, 2)`), 2))
	require.ElementsMatch(t, []string{"1,5", "2,5"}, rowsOf(t, b.changes(`UPDATE parts SET tenant = 2 WHERE id = 5`), 2), "a row that moves")
	require.ElementsMatch(t, []string{"2,5", "2,6"}, rowsOf(t, b.changes(`DELETE FROM parts`), 2))
	require.Empty(t, b.changes(`INSERT INTO parts_1 VALUES (1, 1)`), "PostgreSQL: a statement fires the triggers of the table that it names")

	b.do(`INSERT INTO child VALUES (7)`)
	require.Equal(t, "7", b.change(`UPDATE parent SET id = 7`).key, "with its children")
	for _, table := range []string{"parts_1", "child"} {
		for _, level := range []string{"statement", "change"} {
			b.fails("0A000", "level "+level+" on public."+table+" would miss the statements that name its parent public.par",
				`SELECT pghub.watch('`+table+`', level => '`+level+`')`)
		}
	}
}

func TestStatementAfterDDL(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', level => 'statement')`)
	b.do(`ALTER TABLE people RENAME id TO "Id"; ALTER TABLE people DROP name`)
	require.Equal(t, "1", b.change(`INSERT INTO people VALUES (1)`).key)
	b.do(`ALTER TABLE people DROP CONSTRAINT people_pkey, ADD COLUMN u uuid PRIMARY KEY DEFAULT '8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e'`)
	require.Len(t, b.change(`UPDATE people SET "Id" = 2`).IDs, 1)
	b.do(`ALTER TABLE people DROP u`)
	require.Empty(t, b.change(`UPDATE people SET "Id" = 3`).IDs)
}

func TestChange(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', level => 'change')`)
	require.Equal(t, []string{
		`e:{"schema":"public","table":"people","action":"INSERT"}`,
		`e:{"schema":"public","table":"people","action":"UPDATE"}`,
		`e:{"schema":"public","table":"people","action":"DELETE"}`,
		`e:{"schema":"public","table":"people","action":"TRUNCATE"}`,
	}, b.after(`BEGIN;
		INSERT INTO people VALUES (1, 'a'); INSERT INTO people VALUES (2, 'b');
		UPDATE people SET name = 'c'; INSERT INTO people VALUES (3, 'b'); UPDATE people SET name = 'd';
		DELETE FROM people WHERE id = 1; DELETE FROM people; TRUNCATE people; TRUNCATE people;
		COMMIT`), "each action once a transaction")
	require.Empty(t, b.after(`UPDATE people SET name = 'x'; DELETE FROM people; INSERT INTO people SELECT 1, 'a' WHERE false`))
	require.Empty(t, b.after(`BEGIN; INSERT INTO people VALUES (1, 'a'); ROLLBACK`))
	require.Len(t, b.after(`INSERT INTO people SELECT i, 'a' FROM generate_series(1, 10000) i`), 1)
}
