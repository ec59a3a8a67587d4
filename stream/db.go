package stream

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// db runs statements on connections of the hub's pool, in READ COMMITTED: at other levels a statement would not see what
// others committed while it waited for a lock.
type db struct {
	pool     *pgxpool.Pool
	explicit atomic.Bool // the pool's sessions have another default, and have to be told
}

// conn is a connection, or a transaction on one.
type conn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// do runs one statement. It may call it twice, where the first one was refused.
func (d *db) do(ctx context.Context, statement func(conn) error) error {
	if !d.explicit.Load() {
		err := d.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return statement(c) })
		if !hasState(err, stateWrongIsolation) {
			return named(err)
		}
		d.explicit.Store(true)
	}
	return named(pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error { return statement(tx) }))
}

// exec runs a statement whose result does not matter.
func (d *db) exec(ctx context.Context, sql string, args ...any) error {
	return d.do(ctx, func(c conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
}

// row runs a statement of one row.
func (d *db) row(ctx context.Context, dest []any, sql string, args ...any) error {
	return d.do(ctx, func(c conn) error { return c.QueryRow(ctx, sql, args...).Scan(dest...) })
}
