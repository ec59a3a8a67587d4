package sql

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql uninstall.sql
var files embed.FS

//go:embed migrations/0000_check.sql
var check string

//go:embed uninstall.sql
var uninstall string

// ErrNotInstalled says that there is no schema pghub in the database: call [Install] first, or run the files of migrations/.
var ErrNotInstalled = errors.New("pghub/sql: schema pghub is not installed in this database, or is of an earlier version: call sql.Install first")

// ErrNewer says that a database has a newer schema pghub than this library knows. Whoever installed it would be
// harmed by going back, so nothing is done: update the library.
var ErrNewer = errors.New("pghub/sql: the database has a newer version of schema pghub than this library")

// lockKey is the advisory lock that the files of migrations/ take too.
const lockKey = 482771236194

// Conn is a way to a database: a *pgx.Conn, a *pgxpool.Pool, a *pgxpool.Conn or a pgx.Tx. With a Tx, what is done
// is in effect when that transaction commits.
type Conn interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Install creates schema pghub, or brings it up to the version of this library, in one transaction. Where it is up to
// date nothing is done, so that every service may call it when it starts: those that start at once wait for each other.
//
// The first installation needs the CREATE privilege on the database, an upgrade the ownership of schema pghub, and
// neither where there is nothing to do. A schema pghub that is owned by somebody else than the caller, a role of his, a
// superuser or the owner of the database, or has something of such a one in it, is refused: it may be a trap.
//
// Errors wrap the *pgconn.PgError of the server; [ErrNewer] if the database is ahead of this library.
//
// It rests on [explicit locking], advisory locks.
//
// [explicit locking]: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
func Install(ctx context.Context, conn Conn) error {
	return install(ctx, conn, files)
}

// Uninstall removes the triggers of every watch, all functions and the schema, in one transaction. Where pghub is
// not installed nothing is done. Tables keep their rows.
//
// It needs the ownership of schema pghub, and waits for those who use a watched table. What somebody else made that
// depends on pghub, such as a view on pghub.watches, makes it fail with PostgreSQL's error (SQLSTATE 2BP01).
//
// It rests on [DROP FUNCTION … CASCADE], which takes the triggers along.
//
// [DROP FUNCTION … CASCADE]: https://www.postgresql.org/docs/current/sql-dropfunction.html
func Uninstall(ctx context.Context, conn Conn) error {
	return inTx(ctx, conn, "uninstall", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, check); err != nil {
			return err
		}
		installed, err := isInstalled(ctx, tx)
		if err != nil || !installed {
			return err
		}
		_, err = tx.Exec(ctx, uninstall)
		return err
	})
}

// Version returns the version of schema pghub in the database, 0 where it is not installed. It needs the USAGE
// privilege on the schema, which everybody has unless it was revoked.
func Version(ctx context.Context, conn Conn) (int, error) {
	var v int
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, check)
		if err == nil {
			v, err = version(ctx, tx)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("pghub/sql: version: %w", err)
	}
	return v, nil
}

// migration is one file: it takes the schema from the version before to version.
type migration struct {
	version int
	name    string
	text    string
}

func install(ctx context.Context, conn Conn, files fs.FS) error {
	steps, err := load(files)
	if err != nil {
		return err
	}
	latest := len(steps)
	return inTx(ctx, conn, "install", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, check); err != nil {
			return err
		}
		current, err := version(ctx, tx)
		if err != nil {
			return err
		}
		if current < latest {
			// Whoever came first is done when the lock is ours: look again.
			if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
				return err
			}
			if current, err = version(ctx, tx); err != nil {
				return err
			}
		}
		if current > latest {
			return fmt.Errorf("%w: %d, and the library's is %d", ErrNewer, current, latest)
		}
		for _, step := range steps[current:] {
			if _, err := tx.Exec(ctx, step.text); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			if now, err := version(ctx, tx); err != nil {
				return err
			} else if now != step.version {
				return fmt.Errorf("%s: version is %d after it", step.name, now)
			}
		}
		return nil
	})
}

// load reads the files in the order of their names: 0001_….sql brings version 1, 0002_….sql version 2.
// 0000_….sql brings none, and is run before them.
func load(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var steps []migration
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		v, err := strconv.Atoi(number)
		if err == nil && v == 0 {
			continue // what Install looks at before all others
		}
		if err != nil || v != len(steps)+1 {
			return nil, fmt.Errorf("pghub/sql: %s should be number %d", name, len(steps)+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, migration{v, name, string(text)})
	}
	return steps, nil
}

func version(ctx context.Context, conn Conn) (v int, err error) {
	installed, err := isInstalled(ctx, conn)
	if err != nil || !installed {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.max(version), 0) FROM pghub.migrations").Scan(&v)
	return v, err
}

func isInstalled(ctx context.Context, conn Conn) (yes bool, err error) {
	// Not to_regclass: it may still believe what it looked up before a lock was ours.
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'pghub' AND tablename = 'migrations')").Scan(&yes)
	return yes, err
}

func inTx(ctx context.Context, conn Conn, what string, do func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// A stricter level would not see what others committed while this one waited for the lock.
		if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
			return err
		}
		return do(tx)
	})
	if err != nil {
		return fmt.Errorf("pghub/sql: %s: %w", what, err)
	}
	return nil
}
