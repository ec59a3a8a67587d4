package sql

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const people = `CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, height numeric, "Born" date);`

func TestRowToTheLetter(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people')`)
	for _, step := range []struct{ sql, payload string }{
		{
			`INSERT INTO people VALUES (1, 'Ann', 1.80, '2001-02-03')`,
			`e1:{"op":"insert","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"id":1,"name":"Ann","height":1.80,"Born":"2001-02-03"}}`,
		},
		{
			`UPDATE people SET height = NULL`,
			`e1:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"id":1,"name":"Ann","height":null,"Born":"2001-02-03"}}`,
		},
		{
			`UPDATE people SET id = -2`,
			`e-2:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":-2},"old_id":{"id":1},"old_key":[1],"row":{"id":-2,"name":"Ann","height":null,"Born":"2001-02-03"}}`,
		},
		{
			`DELETE FROM people`,
			`e-2:{"op":"delete","schema":"public","table":"people","seq":1,"id":{"id":-2},"row":{"id":-2,"name":"Ann","height":null,"Born":"2001-02-03"}}`,
		},
		{
			`TRUNCATE people`,
			`e:{"op":"truncate","schema":"public","table":"people","seq":1}`,
		},
	} {
		require.Equal(t, []string{step.payload}, b.after(step.sql))
	}
}

func TestRowOldAndChanged(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', old => true, changed => true)`)
	require.Equal(t, []string{
		`e1:{"op":"insert","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"id":1,"name":"Ann","height":1.8,"Born":null}}`,
	}, b.after(`INSERT INTO people VALUES (1, 'Ann', 1.8)`))
	require.Equal(t, []string{
		`e1:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"id":1,"name":"Bob","height":1.80,"Born":"2001-02-03"},` +
			`"old":{"id":1,"name":"Ann","height":1.8,"Born":null},"changed":["name","Born"]}`,
	}, b.after(`UPDATE people SET name = 'Bob', height = 1.80 - 0, "Born" = '2001-02-03'`), "1.8 equals 1.80")
	require.Empty(t, b.change(`UPDATE people SET name = name`).Changed)
	require.NotNil(t, b.change(`UPDATE people SET name = name`).Changed, "announced though empty")
	c := b.change(`DELETE FROM people`)
	require.Nil(t, c.Old)
	require.Nil(t, c.Changed)
	require.Equal(t, "Bob", c.Row["name"])
}

func TestRowIncludeExclude(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', include => '{height,name}', old => true, changed => true)`)
	b.do(`INSERT INTO people VALUES (1, 'Ann', 1.8)`)
	b.heard()
	require.Equal(t, []string{
		`e1:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"name":"Ann","height":1.9},"old":{"name":"Ann","height":1.8},"changed":["height"]}`,
	}, b.after(`UPDATE people SET height = 1.9, "Born" = '2001-02-03'`), "in the table's order")

	b.do(`SELECT pghub.watch('people', exclude => '{height,id}', old => true)`)
	require.Equal(t, []string{
		`e1:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":1},"row":{"name":"Ann","Born":null},"old":{"name":"Ann","Born":"2001-02-03"}}`,
	}, b.after(`UPDATE people SET height = 2, "Born" = NULL`), "the key is announced all the same")

	b.do(`ALTER TABLE people ADD secret text DEFAULT 's'; ALTER TABLE people RENAME height TO size`)
	c := b.change(`UPDATE people SET name = 'Bob'`)
	require.Equal(t, map[string]any{"name": "Bob", "Born": nil}, c.Row, "neither a new column nor an excluded one under a new name")
}

// PostgreSQL folds equal payloads of one transaction. The last word must not be among what it drops.
func TestRowEqualChangesInOneTransaction(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people')`)
	var ops []string
	for i, c := range b.changes(`BEGIN;
		INSERT INTO people VALUES (1, 'Ann');
		DELETE FROM people;
		INSERT INTO people VALUES (1, 'Ann');
		SAVEPOINT s; DELETE FROM people; ROLLBACK TO s;
		UPDATE people SET name = 'Bob';
		UPDATE people SET name = 'Ann';
		UPDATE people SET name = 'Bob';
		COMMIT`) {
		require.EqualValues(t, i+1, c.Seq)
		ops = append(ops, c.Op+" "+c.Row["name"].(string))
	}
	require.Equal(t, []string{"insert Ann", "delete Ann", "insert Ann", "update Bob", "update Ann", "update Bob"}, ops)
	require.EqualValues(t, 1, b.change(`DELETE FROM people`).Seq, "the next transaction counts anew")
}

func TestRowTooLarge(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', old => true)`)
	fits := b.change(`INSERT INTO people VALUES (1, repeat('x', 7850))`)
	require.False(t, fits.Truncated)
	require.NotNil(t, fits.Row)

	require.Equal(t, []string{
		`e1:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":1},"truncated":true}`,
	}, b.after(`UPDATE people SET height = 1`), "with the old row it is too much")
	require.Equal(t, []string{
		`e3:{"op":"update","schema":"public","table":"people","seq":1,"id":{"id":3},"old_id":{"id":1},"old_key":[1],"truncated":true}`,
	}, b.after(`UPDATE people SET id = 3, name = repeat('é', 4000)`))
	require.True(t, b.change(`DELETE FROM people`).Truncated)

	// The limit to the byte.
	size := len(b.after(`INSERT INTO people VALUES (4, '')`)[0])
	require.Len(t, b.after(`INSERT INTO people VALUES (5, repeat('x', $1))`, 7999-size)[0], 7999)
	require.True(t, b.change(`INSERT INTO people VALUES (6, repeat('x', $1))`, 8000-size).Truncated)
}

// A key that is itself too large leaves an event that says that something happened, and what of the key is small.
func TestRowKeyTooLarge(t *testing.T) {
	b := setUp(t, "docs")
	b.do(`CREATE TABLE docs (n int, path text, PRIMARY KEY (n, path)); SELECT pghub.watch('docs')`)
	require.Equal(t, []string{
		`e7:{"op":"insert","schema":"public","table":"docs","seq":1,"truncated":true}`,
	}, b.after(`INSERT INTO docs VALUES (7, repeat('x', 9000))`))
	require.Equal(t, []string{
		`e7:{"op":"update","schema":"public","table":"docs","seq":1,"truncated":true}`,
	}, b.after(`UPDATE docs SET path = repeat('y', 4000)`))
}

// What has no form in jsonb cannot be announced, but must not fail the statement either.
func TestRowWithoutJSON(t *testing.T) {
	b := setUp(t, "people")
	b.do(`CREATE TABLE people ("the Id" int, j json, uid text, x text DEFAULT 'y', PRIMARY KEY (uid, "the Id", x)); SELECT pghub.watch('people', old => true)`)
	require.Equal(t, []string{
		`e1:{"op":"insert","schema":"public","table":"people","seq":1,"id":{"uid":"a","the Id":1,"x":"y"},"truncated":true}`,
	}, b.after(`INSERT INTO people VALUES (1, '{"a":"\u0000"}', 'a')`))
	require.Equal(t, []string{
		`e2:{"op":"update","schema":"public","table":"people","seq":1,"id":{"uid":"a","the Id":2,"x":"y"},"old_id":{"uid":"a","the Id":1,"x":"y"},"old_key":[1],"truncated":true}`,
	}, b.after(`UPDATE people SET "the Id" = 2`))
	require.Equal(t, []string{
		`e2:{"op":"delete","schema":"public","table":"people","seq":1,"id":{"uid":"a","the Id":2,"x":"y"},"truncated":true}`,
	}, b.after(`DELETE FROM people`))

	b.do(`ALTER TABLE people DROP CONSTRAINT people_pkey; SELECT pghub.watch('people')`)
	require.Equal(t, []string{
		`e:{"op":"insert","schema":"public","table":"people","seq":1,"truncated":true}`,
	}, b.after(`INSERT INTO people VALUES (1, '{"a":"\u0000"}', 'a')`), "no key at all")
}

func TestRowKeys(t *testing.T) {
	for name, c := range map[string]struct{ columns, row, key, id string }{
		"none":               {`a int, b int`, `1, 2`, ``, ``},
		"smallint":           {`a smallint PRIMARY KEY`, `-32768`, `-32768`, `{"a":-32768}`},
		"bigint":             {`a bigint PRIMARY KEY`, `9223372036854775807`, `9223372036854775807`, `{"a":9223372036854775807}`},
		"domain":             {`a positive PRIMARY KEY`, `3`, `3`, `{"a":3}`},
		"identity":           {`a bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY`, `4`, `4`, `{"a":4}`},
		"text":               {`a text PRIMARY KEY`, `'x "1": é'`, ``, `{"a":"x \"1\": é"}`},
		"uuid":               {`a uuid PRIMARY KEY`, `'8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e'`, ``, `{"a":"8c6f5d2e-2b3f-4a86-9c60-0f1a2b3c4d5e"}`},
		"numeric":            {`a numeric PRIMARY KEY`, `1.50`, ``, `{"a":1.50}`},
		"timestamptz":        {`a timestamptz PRIMARY KEY`, `'2024-01-02 03:04:05.6+02'`, ``, `{"a":"2024-01-02T01:04:05.6+00:00"}`},
		"of two":             {`a int, b bigint, PRIMARY KEY (b, a)`, `1, 2`, `2,1`, `{"b":2,"a":1}`},
		"mixed":              {`a int, b text, c smallint, PRIMARY KEY (c, b, a)`, `1, 'x', 3`, `3,1`, `{"c":3,"b":"x","a":1}`},
		"quoted":             {`"A b" int, "say ""hi""" text, PRIMARY KEY ("say ""hi""", "A b")`, `1, 'x'`, `1`, `{"say \"hi\"":"x","A b":1}`},
		"with other columns": {`a int, b int, PRIMARY KEY (a) INCLUDE (b)`, `1, 2`, `1`, `{"a":1}`},
		"names of ours":      {`k int, new text, old text, pk int, this int, tg_op text, PRIMARY KEY (new, old, k)`, `1, 'n', 'o', 2, 3, 't'`, `1`, `{"new":"n","old":"o","k":1}`},
		"comma and braces":   {`"a,{b}\" int PRIMARY KEY`, `1`, `1`, `{"a,{b}\\":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := setUp(t, "t")
			b.do(`CREATE DOMAIN small AS int; CREATE DOMAIN positive AS small CHECK (VALUE > 0);
				CREATE TABLE t (` + c.columns + `); SELECT pghub.watch('t')`)
			payload := b.after(`INSERT INTO t VALUES (` + c.row + `)`)[0]
			key, _, _ := strings.Cut(payload, ":")
			require.Equal(t, "e"+c.key, key)
			if c.id == "" {
				require.NotContains(t, payload, `"id"`)
			} else {
				require.Contains(t, payload, `"id":`+c.id+`,"row":`)
			}
			require.True(t, json.Valid([]byte(payload[len(key)+1:])), payload)
		})
	}
}

func TestRowOfAndCondition(t *testing.T) {
	b := setUp(t, "people", "tall", "Name")
	b.do(people + `INSERT INTO people SELECT i, 'p' || i, 1.5 + i / 10.0 FROM generate_series(1, 9) i;
		SELECT pghub.watch('people', topic => 'tall', operations => '{insert,update}', condition => 'NEW.height > 2.0', name => 'tall');
		SELECT pghub.watch('people', topic => 'Name', operations => '{UPDATE,update}', "of" => '{name,"Born"}', name => 'name')`)
	var keys []string
	for _, c := range b.changes(`UPDATE people SET height = height + 0.1; INSERT INTO people VALUES (10, 'x', 2.01), (11, 'y', 2)`) {
		keys = append(keys, c.key)
	}
	require.Equal(t, []string{"5", "6", "7", "8", "9", "10"}, keys)

	require.Empty(t, b.changes(`DELETE FROM people WHERE id > 5`))
	require.Equal(t, "1", b.change(`UPDATE people SET name = 'z' WHERE id = 1`).key)
	require.Equal(t, "2", b.change(`UPDATE people SET "Born" = now() WHERE id = 2`).key)
	require.Empty(t, b.changes(`UPDATE people SET height = 0`))

	// Conditions on both rows, with a comment at the end, and a truncate that no condition can be asked about.
	b.do(`SELECT pghub.unwatch('people', 'name');
		SELECT pghub.watch('people', topic => 'tall', name => 'tall', operations => '{update,truncate}',
			condition => 'OLD.height IS DISTINCT FROM NEW.height -- not the name')`)
	require.Empty(t, b.changes(`UPDATE people SET name = 'q'`))
	require.Len(t, b.changes(`UPDATE people SET height = 9 WHERE id < 3`), 2)
	require.Equal(t, "truncate", b.change(`TRUNCATE people`).Op)
}

// The names in a condition are those that whoever calls watch sees, not those of the function.
func TestConditionSeesTheCallersSchemas(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `CREATE SCHEMA app; CREATE FUNCTION app.tall(numeric) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 2';
		SET search_path = app, public;
		SELECT pghub.watch('people', operations => '{insert}', condition => 'tall(NEW.height)');
		RESET search_path`)
	require.Len(t, b.changes(`INSERT INTO people VALUES (1, 'a', 1), (2, 'b', 2.1)`), 1)
}

func TestRowPartitioned(t *testing.T) {
	b := setUp(t, "parts")
	b.do(`CREATE TABLE parts (tenant int, id int, v text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
		CREATE TABLE parts_2 (v text, gone int, id int NOT NULL, tenant int NOT NULL); -- other order, and a dropped column
		ALTER TABLE parts_2 DROP gone;
		SELECT pghub.watch('parts');
		ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
		CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3) PARTITION BY RANGE (id);
		CREATE TABLE parts_3_1 PARTITION OF parts_3 DEFAULT`)
	for tenant, want := range map[string]string{"1": "1,10", "2": "2,10", "3": "3,10"} {
		c := b.change(`INSERT INTO parts VALUES (` + tenant + `, 10, 'x')`)
		require.Equal(t, want, c.key)
		require.Equal(t, "parts", c.Table)
		require.Equal(t, "x", c.Row["v"])
		require.Equal(t, want, b.change(`UPDATE parts SET v = 'y' WHERE tenant = `+tenant).key)
		require.Equal(t, want, b.change(`UPDATE parts_`+tenant+` SET v = 'z'`).key, "written past the parent")
	}
	moved := b.changes(`UPDATE parts SET tenant = 3, id = 11 WHERE tenant = 1`)
	require.Len(t, moved, 2, "PostgreSQL moves a row to another partition by delete and insert")
	require.Equal(t, []string{"delete 1,10", "insert 3,11"}, []string{moved[0].Op + " " + moved[0].key, moved[1].Op + " " + moved[1].key})
	require.Equal(t, "truncate", b.change(`TRUNCATE parts`).Op)

	require.False(t, one[bool](b, `SELECT pghub.unwatch('parts_1')`), "the watch is the parent's")
	require.True(t, one[bool](b, `SELECT pghub.unwatch('parts')`))
	require.Empty(t, b.changes(`INSERT INTO parts VALUES (1, 1), (2, 2), (3, 3)`))

	b.do(`SELECT pghub.watch('parts_1', topic => 'parts')`)
	require.Equal(t, "parts_1", b.change(`INSERT INTO parts VALUES (1, 2), (2, 3)`).Table)
}

// DDL on a watched table must neither fail the writers nor lose keys.
func TestRowAfterDDL(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people', old => true)`)
	b.do(`ALTER TABLE people ADD email text DEFAULT 'e'; ALTER TABLE people DROP "Born"; ALTER TABLE people ALTER height TYPE text`)
	c := b.change(`INSERT INTO people VALUES (1, 'Ann', 'tall')`)
	require.Equal(t, map[string]any{"id": json.Number("1"), "name": "Ann", "height": "tall", "email": "e"}, c.Row)

	b.do(`ALTER TABLE people RENAME id TO "Id"`)
	for _, sql := range []string{`INSERT INTO people VALUES (2)`, `UPDATE people SET "Id" = 2`, `DELETE FROM people`} {
		if strings.HasPrefix(sql, "INSERT") {
			b.do(`ALTER TABLE people ALTER name DROP NOT NULL; DELETE FROM people`)
			b.heard()
		}
		c := b.change(sql)
		require.Equal(t, "2", c.key, sql)
		require.Equal(t, map[string]any{"Id": json.Number("2")}, c.ID, sql)
	}

	require.True(t, one[bool](b, `SELECT pghub.watch('people', old => true)`), "to watch again takes the new name in")
	require.False(t, b.change(`INSERT INTO people VALUES (3)`).Truncated)

	b.do(`ALTER TABLE people DROP CONSTRAINT people_pkey; ALTER TABLE people DROP "Id"`)
	require.Empty(t, b.change(`INSERT INTO people VALUES ('x')`).ID)
	b.do(`ALTER TABLE people RENAME TO persons; CREATE SCHEMA s; ALTER TABLE persons SET SCHEMA s`)
	require.Equal(t, "people", b.change(`INSERT INTO s.persons VALUES ('x')`).Table, "until watched again")
}

// What a watch names cannot be dropped under it.
func TestRowColumnsInUse(t *testing.T) {
	b := setUp(t)
	b.do(people + `SELECT pghub.watch('people', operations => '{update}', "of" => '{name}', condition => 'NEW.height > 2')`)
	b.fails("2BP01", "cannot drop column name of table people because other objects depend on it", `ALTER TABLE people DROP name`)
	b.fails("2BP01", "cannot drop column height of table people because other objects depend on it", `ALTER TABLE people DROP height`)
}

// Who switches triggers off switches events off, unless told otherwise; such a choice is respected.
func TestRowReplicationRole(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people'); SET session_replication_role = replica`)
	require.Empty(t, b.changes(`INSERT INTO people VALUES (1, 'a')`))
	b.do(`ALTER TABLE people ENABLE ALWAYS TRIGGER pghub_watch_insert`)
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.Len(t, b.changes(`INSERT INTO people VALUES (2, 'a')`), 1)
}

func TestRowGeneratedColumns(t *testing.T) {
	b := setUp(t, "g")
	b.do(`CREATE TABLE g (id int PRIMARY KEY, a int, double int GENERATED ALWAYS AS (a * 2) STORED); SELECT pghub.watch('g')`)
	require.Equal(t, json.Number("6"), b.change(`INSERT INTO g (id, a) VALUES (1, 3)`).Row["double"])
	if one[int](b, "SELECT current_setting('server_version_num')::int") < 180000 {
		return
	}
	b.do(`ALTER TABLE g ADD triple int GENERATED ALWAYS AS (a * 3) VIRTUAL; SELECT pghub.watch('g')`)
	c := b.change(`INSERT INTO g (id, a) VALUES (2, 3)`)
	require.NotContains(t, c.Row, "triple", "no value is better than a wrong one")
	require.Contains(t, c.Row, "double")
	b.fails("0A000", "include names triple, a virtual generated column", `SELECT pghub.watch('g', include => '{triple}')`)
	b.do(`SELECT pghub.watch('g', operations => '{insert}', condition => 'NEW.triple > 10')`)
	require.Len(t, b.changes(`INSERT INTO g (id, a) VALUES (3, 3), (4, 4)`), 1)
}
