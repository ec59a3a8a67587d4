package sql

import (
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Whoever may create schemas must not be able to wait for a superuser in one of the name pghub.
func TestInstallRefusesAStrangersSchema(t *testing.T) {
	for name, trap := range map[string]string{
		"a schema": `CREATE SCHEMA pghub AUTHORIZATION %s`,
		"one that looks installed": `CREATE SCHEMA pghub AUTHORIZATION %[1]s; SET ROLE %[1]s; CREATE TABLE pghub.migrations AS SELECT 9 AS version;
			CREATE FUNCTION pghub.watch(regclass) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END'; RESET ROLE`,
		"a function in ours": `CREATE SCHEMA pghub; GRANT ALL ON SCHEMA pghub TO %[1]s; SET ROLE %[1]s;
			CREATE FUNCTION pghub.plan() RETURNS int LANGUAGE sql AS 'SELECT 1'; RESET ROLE`,
		"a view in ours": `CREATE SCHEMA pghub; GRANT ALL ON SCHEMA pghub TO %[1]s; SET ROLE %[1]s; CREATE VIEW pghub.migrations AS SELECT 9 AS version; RESET ROLE`,
	} {
		t.Run(name, func(t *testing.T) {
			b := setUp(t)
			role := b.role()
			require.NoError(t, Uninstall(t.Context(), b.conn))
			b.do(fmt.Sprintf(trap, role) + `; CREATE TABLE people (id int PRIMARY KEY)`)
			for _, do := range []func() error{
				func() error { return Install(t.Context(), b.conn) },
				func() error { return Apply(t.Context(), b.conn, Watch{Table: "people"}) },
				func() error { _, err := Version(t.Context(), b.conn); return err },
				func() error { _, err := Remove(t.Context(), b.conn, "people", ""); return err },
			} {
				err := do()
				require.ErrorContains(t, err, "is owned by "+role)
				require.NotContains(t, err.Error(), "trapped")
			}
			b.do(`DROP SCHEMA pghub CASCADE`)
		})
	}
}

// The owner of the database, a superuser, and a role that one is a member of are trusted.
func TestInstallTrusts(t *testing.T) {
	b := setUp(t)
	owner, group, service := b.role(), b.role(), b.role()
	b.do(`GRANT ` + group + ` TO ` + service + `; SET ROLE ` + service)
	require.NoError(t, Install(t.Context(), b.conn), "a superuser's")
	b.do(`RESET ROLE; ALTER DATABASE ` + one[string](b, `SELECT quote_ident(current_database())`) + ` OWNER TO ` + owner)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	b.do(`SET ROLE ` + owner)
	require.NoError(t, Install(t.Context(), b.conn))
	b.do(`RESET ROLE; SET ROLE ` + service)
	require.NoError(t, Install(t.Context(), b.conn), "the owner's of the database")
	b.do(`RESET ROLE`)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	b.do(`GRANT CREATE ON DATABASE ` + one[string](b, `SELECT quote_ident(current_database())`) + ` TO ` + group + `; SET ROLE ` + group)
	require.NoError(t, Install(t.Context(), b.conn))
	b.do(`RESET ROLE; SET ROLE ` + service)
	require.NoError(t, Install(t.Context(), b.conn), "a group's")
	b.do(`RESET ROLE`)
	require.ErrorContains(t, Install(t.Context(), b.conn), "is owned by "+group, "a superuser is a member of nothing")
	b.do(`DROP SCHEMA pghub CASCADE; ALTER DATABASE ` + one[string](b, `SELECT quote_ident(current_database())`) + ` OWNER TO ` + one[string](b, `SELECT quote_ident(current_user)`))
}

// A dump of the schema alone brings all but the record of versions.
func TestInstallAfterSchemaOnlyDump(t *testing.T) {
	b := setUp(t, "people")
	b.do(people + `SELECT pghub.watch('people'); TRUNCATE pghub.migrations`)
	for range 2 {
		require.NoError(t, Install(t.Context(), b.conn))
	}
	v, err := Version(t.Context(), b.conn)
	require.NoError(t, err)
	require.Equal(t, latest(t), v)
	require.False(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.Equal(t, "1", b.change(`INSERT INTO people VALUES (1, 'a')`).key)
	b.do(`TRUNCATE pghub.migrations`)
	psql(t, b.dsn, "migrations/*.sql")
	require.Equal(t, latest(t), one[int](b, `SELECT max(version) FROM pghub.migrations`))

	// From each version that was released, too.
	steps, err := load(files)
	require.NoError(t, err)
	for upTo := 1; upTo <= 4; upTo++ {
		require.NoError(t, Uninstall(t.Context(), b.conn))
		for _, step := range steps[:upTo] {
			b.do(step.text)
		}
		b.do(`TRUNCATE pghub.migrations`)
		require.NoError(t, Install(t.Context(), b.conn), "version %d", upTo)
		require.Equal(t, latest(t), one[int](b, `SELECT count(*) FROM pghub.migrations`))
	}
}

func latest(t testing.TB) int {
	steps, err := load(files)
	require.NoError(t, err)
	return len(steps)
}

// What pg_dump makes of it, psql takes, and the watches in it work, the schema alone and with data.
func TestDumpAndRestore(t *testing.T) {
	b := setUp(t)
	b.do(people + `ALTER TABLE people ADD gone int; ALTER TABLE people DROP gone; ALTER TABLE people ADD secret text;
		SELECT pghub.watch('people'), pghub.watch('people', name => 'e', topic => 'e', exclude => '{secret}'), pghub.watch('people', name => 's', topic => 's', level => 'statement')`)
	for _, option := range []string{"--schema-only", "--no-owner"} {
		dump := pgtest.Dump(t, b.dsn, option)
		restored := setUp(t, "people", "e", "s")
		require.NoError(t, Uninstall(t.Context(), restored.conn))
		pgtest.Restore(t, restored.dsn, dump)
		require.NoError(t, Install(t.Context(), restored.conn))
		for range 2 {
			list := restored.changes(`INSERT INTO public.people (id, name, secret) VALUES (1, 'a', 'hush')`)
			require.Len(t, list, 3)
			for _, c := range list {
				require.Equal(t, "1", c.key)
			}
			require.NotContains(t, list[0].text, "hush", "exclude")
			restored.do(`SET search_path = public; SELECT pghub.watch('people'), pghub.watch('people', name => 'e', topic => 'e', exclude => '{secret}'),
				pghub.watch('people', name => 's', topic => 's', level => 'statement'); DELETE FROM people`)
			restored.heard()
		}
	}
}

// What a tool runs is what Install runs.
func TestMigrations(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t))
	list := Migrations()
	for range 2 {
		for i, m := range list {
			require.Equal(t, i+1, m.Version)
			require.Regexp(t, `^00\d\d_[a-z_]+$`, m.Name)
			_, err := conn.Exec(t.Context(), m.Up)
			require.NoError(t, err, m.Name)
		}
	}
	require.NoError(t, Install(t.Context(), conn))
	for i := len(list) - 1; i >= 0; i-- {
		_, err := conn.Exec(t.Context(), list[i].Down)
		require.NoError(t, err)
	}
	v, err := Version(t.Context(), conn)
	require.NoError(t, err)
	require.Zero(t, v)
	_, err = Files().ReadFile("migrations/0001_schema.sql")
	require.NoError(t, err)
}

// Apply by many at once, whatever isolation their sessions have.
func TestApplyByManyAtOnce(t *testing.T) {
	b := setUp(t)
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		b.do(people)
		conns := make([]*pgx.Conn, 16)
		for i := range conns {
			conns[i] = pgtest.Conn(t, b.dsn)
			_, err := conns[i].Exec(t.Context(), "SET default_transaction_isolation = '"+isolation+"'")
			require.NoError(t, err)
		}
		for round := range 4 {
			errs := make([]error, len(conns))
			var wg sync.WaitGroup
			for i, conn := range conns {
				wg.Go(func() {
					errs[i] = Apply(t.Context(), conn, Watch{Table: "people", Topic: fmt.Sprint("t", round)}, Watch{Table: "people", Name: "two", Level: Statement, Topic: fmt.Sprint("u", round)})
				})
			}
			wg.Wait()
			for _, err := range errs {
				require.NoError(t, err, isolation)
			}
		}
		require.Equal(t, 2, one[int](b, `SELECT count(*) FROM pghub.watches WHERE enabled AND cardinality(operations) = 4`))
		require.Equal(t, 2, one[int](b, `SELECT count(*) FROM pg_proc WHERE prosrc LIKE '-- {%'`), "and no function is left behind")
		b.do(`DROP TABLE people; SELECT pghub.sweep()`)
	}
}

func TestApplyBeforeInstall(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t))
	err := Apply(t.Context(), conn, Watch{Table: "people"})
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "call sql.Install first")
	_, err = Plan(t.Context(), conn)
	require.ErrorIs(t, err, ErrNotInstalled)
	_, err = Remove(t.Context(), conn, "people", "")
	require.ErrorIs(t, err, ErrNotInstalled)
}

// Install, Uninstall and Apply in the caller's transaction leave its settings as they were.
func TestInTheCallersTransaction(t *testing.T) {
	b := setUp(t)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	b.do(people + `CREATE SCHEMA mine`)
	tx, err := b.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SET LOCAL search_path = mine, public; SET LOCAL lock_timeout = '7s'; SET LOCAL client_encoding = 'LATIN1'`)
	require.NoError(t, err)
	same := func(what string) {
		t.Helper()
		var path, timeout, encoding string
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT current_setting('search_path'), current_setting('lock_timeout'), current_setting('client_encoding')`).Scan(&path, &timeout, &encoding))
		require.Equal(t, []string{"mine, public", "7s", "LATIN1"}, []string{path, timeout, encoding}, what)
	}
	for range 2 {
		require.NoError(t, Install(t.Context(), tx))
		same("install")
	}
	require.NoError(t, Apply(t.Context(), tx, Watch{Table: "people"}))
	same("apply")
	_, err = Plan(t.Context(), tx, Watch{Table: "people", Level: Statement})
	require.NoError(t, err)
	same("plan")
	_, err = tx.Exec(t.Context(), `INSERT INTO people VALUES (1, 'a')`)
	require.NoError(t, err)
	same("a write")
	removed, err := Remove(t.Context(), tx, "people", "")
	require.NoError(t, err)
	require.True(t, removed)
	same("remove")
	require.NoError(t, Uninstall(t.Context(), tx))
	same("uninstall")
	require.NoError(t, tx.Commit(t.Context()))
}

// Names are UTF-8 in Go, whatever the database and the pool have.
func TestNamesInAnotherEncoding(t *testing.T) {
	b := setUp(t)
	b.do(`CREATE TABLE "Größe" (id int PRIMARY KEY, "été" text); SET client_encoding = 'LATIN1'`)
	require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: `"Größe"`, Topic: "Größe", Include: []string{"été"}}))
	b.do(`SET client_encoding = 'UTF8'`)
	require.Equal(t, "Größe", one[string](b, `SELECT topic FROM pghub.watches`))
}

// In a database that is not UTF-8 either, each event has what was written.
func TestDatabaseInAnotherEncoding(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	b := &bench{t: t, dsn: dsn, conn: pgtest.Conn(t, dsn), ear: pgtest.Conn(t, dsn)}
	b.do(`SET client_encoding = 'UTF8'`)
	require.NoError(t, Install(t.Context(), b.conn))
	for _, statement := range []string{`SET client_encoding = 'UTF8'`, `LISTEN "Größe"`, `LISTEN mark`} { // the first decides how the second is read
		_, err := b.ear.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	for _, encoding := range []string{"LATIN1", "UTF8"} {
		b.do(`SET client_encoding = 'UTF8'`)
		b.do(`DROP TABLE IF EXISTS "Größe"`)
		b.do(`CREATE TABLE "Größe" (id int PRIMARY KEY, "été" text)`)
		for _, level := range []Level{Row, Statement} {
			b.do(`SET client_encoding = '` + encoding + `'`)
			require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: `"Größe"`, Level: level}))
			b.do(`SET client_encoding = 'UTF8'`)
			c := b.change(`INSERT INTO "Größe" VALUES (1, 'ÿé')`)
			require.Equal(t, []string{"Größe", "1"}, []string{c.Table, c.key})
			if level == Row {
				require.Equal(t, "ÿé", c.Row["été"])
			}
			require.Len(t, b.changes(`DELETE FROM "Größe"`), 1)
		}
	}
	require.ErrorContains(t, Apply(t.Context(), b.conn, Watch{Table: `"Größe"`, Topic: "€"}), "has no equivalent in encoding")
}
