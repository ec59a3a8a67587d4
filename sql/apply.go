package sql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNewerWatch says that a watch in the database has a higher generation than the one to apply, and was left alone:
// a newer version of the program is at work beside this one.
var ErrNewerWatch = errors.New("pghub/sql: the database has a watch of a higher generation")

// How often Apply tries to get a table's lock, and how long it stays away between two tries: a random time up to these bounds.
const (
	lockAttempts        = 6
	minBackoff          = 250 * time.Millisecond
	maxBackoff          = 4 * time.Second
	lockNotAvailable    = "55P03"
	serializationFailed = "40001"
	deadlockDetected    = "40P01"
)

// Apply puts watches into effect, each in a transaction of its own unless conn is one. A watch of the same table and
// name is replaced; one that is in effect already is left alone and locks nothing, so that a service may declare its
// tables whenever it starts.
//
// A watch that is new or changed takes a lock that makes writers of its table wait (see [Plan]). It waits for that
// lock no longer than lock_timeout, or 2 s where that is not set, since whoever comes after it waits too. Then it stays
// away for a random time of up to 4 s and tries again, six times in all. If conn is a transaction it tries once. A
// watch that could not be applied keeps none of the others from being applied: the error is of all together.
//
// A new watch needs the TRIGGER privilege on its table, a replaced one its ownership. A table, column or option that
// is not what it should be is an error that says so; it wraps the server's *pgconn.PgError, and names the table.
// [ErrNewerWatch]: a program with a higher Generation was here, and its watch stays. [ErrNotInstalled]: see [Install].
//
// It rests on [CREATE TRIGGER].
//
// [CREATE TRIGGER]: https://www.postgresql.org/docs/current/sql-createtrigger.html
func Apply(ctx context.Context, conn Conn, watches ...Watch) error {
	if err := ready(ctx, conn); err != nil {
		return fmt.Errorf("pghub/sql: apply: %w", err)
	}
	var errs []error
	for _, w := range watches {
		if err := w.apply(ctx, conn); err != nil {
			errs = append(errs, fmt.Errorf("pghub/sql: watch %s: %w", w.Table, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// Step is a command that [Apply] would run.
type Step struct {
	Table   string // of the Watch
	Command string
	Lock    string // on the table and, of a partitioned one, on its partitions: none, SHARE ROW EXCLUSIVE (writers wait) or ACCESS EXCLUSIVE (readers too)
}

// Plan returns what [Apply] would run, in its order, and runs nothing. Nothing is returned for a watch that is in effect.
func Plan(ctx context.Context, conn Conn, watches ...Watch) ([]Step, error) {
	if err := ready(ctx, conn); err != nil {
		return nil, fmt.Errorf("pghub/sql: plan: %w", err)
	}
	var steps []Step
	for _, w := range watches {
		call, args := w.call("plan")
		err := within(ctx, conn, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT command, locks FROM "+call, args...)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Step, error) {
				step := Step{Table: w.Table}
				err := row.Scan(&step.Command, &step.Lock)
				return step, err
			})
			steps = append(steps, list...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("pghub/sql: plan of %s: %w", w.Table, err)
		}
	}
	return steps, nil
}

// Remove ends the watch of a table that has this name ("" for all of them) and says whether there was one. It needs
// the ownership of the table, and waits for its lock as [Apply] does.
func Remove(ctx context.Context, conn Conn, table, name string) (bool, error) {
	err := ready(ctx, conn)
	var removed bool
	if err == nil {
		err = patiently(ctx, conn, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT pghub.unwatch($1::text::regclass, nullif($2::text, ''))", table, name).Scan(&removed)
		})
	}
	if err != nil {
		return false, fmt.Errorf("pghub/sql: unwatch %s: %w", table, err)
	}
	return removed, nil
}

func (w Watch) apply(ctx context.Context, conn Conn) error {
	return patiently(ctx, conn, func(tx pgx.Tx) error {
		var changed bool
		call, args := w.call("watch")
		if err := tx.QueryRow(ctx, "SELECT "+call, args...).Scan(&changed); err != nil || changed {
			return err
		}
		var generation int
		name := w.Name
		if name == "" {
			name = "watch"
		}
		err := tx.QueryRow(ctx, `SELECT coalesce(max((definition::jsonb ->> 'generation')::int), 0) FROM pghub.watches
			WHERE relation = $1::text::regclass AND name = $2 AND definition LIKE '{%'`, w.Table, name).Scan(&generation)
		if err == nil && generation > w.Generation {
			err = fmt.Errorf("%w: %d, and this one's is %d", ErrNewerWatch, generation, w.Generation)
		}
		return err
	})
}

// ready checks that schema pghub is there, and nobody's trap.
func ready(ctx context.Context, conn Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, check); err != nil {
			return err
		}
		var installed bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = 'pghub' AND p.proname = 'plan')`).Scan(&installed)
		if err == nil && !installed {
			err = ErrNotInstalled
		}
		return err
	})
}

// patiently does something that needs a table's lock, again and again while it does not get it.
func patiently(ctx context.Context, conn Conn, do func(pgx.Tx) error) error {
	_, nested := conn.(pgx.Tx)
	backoff := minBackoff
	for attempt := 1; ; attempt++ {
		err := within(ctx, conn, do)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || nested || attempt == lockAttempts {
			return err
		}
		if pgErr.Code != lockNotAvailable && pgErr.Code != deadlockDetected && pgErr.Code != serializationFailed {
			return err
		}
		select {
		case <-time.After(rand.N(backoff)):
		case <-ctx.Done():
			return err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// within runs a transaction, or a savepoint where conn is one, that sees what others committed while it waited, and
// whose names are in UTF-8 whatever the pool is set to.
func within(ctx context.Context, conn Conn, do func(pgx.Tx) error) error {
	_, nested := conn.(pgx.Tx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if !nested {
			if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
				return err
			}
		}
		encoding := tx.Conn().PgConn().ParameterStatus("client_encoding")
		if encoding == "UTF8" {
			return do(tx)
		}
		if _, err := tx.Exec(ctx, "SET LOCAL client_encoding = 'UTF8'"); err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err // undone with the rest
		}
		_, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('client_encoding', $1, true)", encoding)
		return err
	})
}
