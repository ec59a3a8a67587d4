package sql

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestInstallIsIdempotent(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t))
	v, err := Version(t.Context(), conn)
	require.NoError(t, err)
	require.Zero(t, v)

	for range 3 {
		require.NoError(t, Install(t.Context(), conn))
	}
	v, err = Version(t.Context(), conn)
	require.NoError(t, err)
	names, _ := fs.Glob(files, "migrations/*.sql")
	require.Equal(t, len(names)-1, v, "0000 brings no version")
}

func TestInstallByManyAtOnce(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, isolation := range []string{"read committed", "serializable"} {
		conns := make([]*pgx.Conn, 8)
		for i := range conns {
			conns[i] = pgtest.Conn(t, dsn)
			_, err := conns[i].Exec(t.Context(), "SET default_transaction_isolation = '"+isolation+"'")
			require.NoError(t, err)
		}
		errs := make([]error, len(conns))
		var wg sync.WaitGroup
		for i, conn := range conns {
			wg.Go(func() { errs[i] = Install(t.Context(), conn) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.NoError(t, Uninstall(t.Context(), conns[0]))
	}
}

func TestInstallInPoolAndTx(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, Install(t.Context(), tx))
	require.NoError(t, tx.Rollback(t.Context()))
	v, err := Version(t.Context(), pool)
	require.NoError(t, err)
	require.Zero(t, v)
	require.NoError(t, Install(t.Context(), pool))
}

// later returns the migrations and one more, which a later version of the library might bring.
func later(t *testing.T, text string) fs.FS {
	all := fstest.MapFS{}
	names, err := fs.Glob(files, "migrations/*.sql")
	require.NoError(t, err)
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		all[name] = &fstest.MapFile{Data: data}
	}
	all["migrations/0017_later.sql"] = &fstest.MapFile{Data: []byte(text)}
	return all
}

const migration17 = `DO $$ BEGIN IF pghub.migrating(17) THEN
	CREATE FUNCTION pghub.later() RETURNS int LANGUAGE sql AS 'SELECT 17';
END IF; END $$`

func TestUpgrade(t *testing.T) {
	b := setUp(t, "people")
	b.do("CREATE TABLE people (id int PRIMARY KEY); SELECT pghub.watch('people')")
	later := later(t, migration17)
	for range 2 {
		require.NoError(t, install(t.Context(), b.conn, later))
	}
	require.Equal(t, 17, one[int](b, "SELECT pghub.later()"))
	require.Equal(t, "1", b.change("INSERT INTO people VALUES (1)").key, "watches live on")

	err := Install(t.Context(), b.conn)
	require.ErrorIs(t, err, ErrNewer)
	require.ErrorContains(t, err, "17, and the library's is 16")
}

func TestFailedUpgradeLeavesTheOldVersion(t *testing.T) {
	b := setUp(t)
	require.ErrorContains(t, install(t.Context(), b.conn, later(t, "SELECT 1/0")), "0017_later.sql: ERROR: division by zero")
	require.ErrorContains(t, install(t.Context(), b.conn, later(t, "SELECT 1")), "version is 16 after it")
	require.NoError(t, Install(t.Context(), b.conn))
}

func TestMigrationsComeInOrder(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.Database(t))
	first, err := fs.ReadFile(files, "migrations/0001_schema.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(first))
	require.NoError(t, err)
	third, err := fs.ReadFile(files, "migrations/0003_triggers.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(third))
	require.ErrorContains(t, err, "migration 3 needs version 2, and version 1 is installed")

	_, err = load(fstest.MapFS{"migrations/0002_x.sql": &fstest.MapFile{}})
	require.ErrorContains(t, err, "should be number 1")
}

func TestUninstall(t *testing.T) {
	b := setUp(t)
	b.do(`CREATE TABLE "Odd Name" (id int PRIMARY KEY);
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
		SELECT pghub.watch('"Odd Name"'), pghub.watch('parts'), pghub.watch('parts', level => 'statement', name => 'two')`)

	b.do("CREATE VIEW mine AS SELECT * FROM pghub.watches")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, Uninstall(t.Context(), b.conn), &pgErr)
	require.Equal(t, "2BP01", pgErr.Code)
	require.Contains(t, pgErr.Detail, "mine depends on view pghub.watches")
	b.do("DROP VIEW mine")

	for range 2 {
		require.NoError(t, Uninstall(t.Context(), b.conn))
		v, err := Version(t.Context(), b.conn)
		require.NoError(t, err)
		require.Zero(t, v)
	}
	require.Zero(t, one[int](b, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"))
	require.Zero(t, one[int](b, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pghub'"))
	b.do(`INSERT INTO "Odd Name" VALUES (1); INSERT INTO parts VALUES (1)`)
	require.NoError(t, Install(t.Context(), b.conn))
}

// The files are what a DBA runs, so psql must take them as they are, and take them again.
func TestFilesWithPsql(t *testing.T) {
	b := setUp(t)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	for range 2 {
		psql(t, b.dsn, "migrations/*.sql")
	}
	v, err := Version(t.Context(), b.conn)
	require.NoError(t, err)
	require.Equal(t, 16, v)
	for range 2 {
		psql(t, b.dsn, "uninstall.sql")
	}
	require.Zero(t, one[int](b, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pghub'"))
}

// psql runs files and returns what they print.
func psql(t *testing.T, dsn, pattern string) string {
	t.Helper()
	program, err := exec.LookPath("psql")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "no psql: apt-get install postgresql-client")
		t.Skip("NOT TESTED: no psql here")
	}
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	args := []string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn}
	for _, file := range files {
		args = append(args, "-f", file)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.ReplaceAll(string(out), "\r", "")
}

// Whoever has everything in place, or nothing to remove, needs no privileges to find that out.
func TestInstallWithoutPrivileges(t *testing.T) {
	b := setUp(t)
	role := b.role()
	b.do("SET ROLE " + role)
	require.NoError(t, Install(t.Context(), b.conn))
	require.Error(t, Uninstall(t.Context(), b.conn))
	b.do("RESET ROLE")
	require.NoError(t, Uninstall(t.Context(), b.conn))
	b.do("REVOKE CREATE ON DATABASE " + one[string](b, "SELECT quote_ident(current_database())") + " FROM PUBLIC; SET ROLE " + role)
	require.NoError(t, Uninstall(t.Context(), b.conn))
	require.ErrorContains(t, Install(t.Context(), b.conn), "permission denied for database")
}
