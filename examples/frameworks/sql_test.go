package frameworks

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// announce is the user's own code, whatever the library: it is given the transaction.
type announce func(tx pghub.SQLExecer) error

// queries is what sqlc generates without the package pgx: New takes a DBTX, and WithTx a transaction.
type queries struct{ db pghub.SQLExecer }

func (q *queries) WithTx(tx *sql.Tx) *queries { return &queries{db: tx} }

func (q *queries) SellOrder(ctx context.Context, id int64) error {
	_, err := q.db.ExecContext(ctx, `UPDATE orders SET status = 'sold' WHERE id = $1`, id)
	return err
}

// libraries run a function in a transaction that commits, or that rolls back if it returns an error.
func libraries(t *testing.T, db *sql.DB) map[string]func(context.Context, announce) error {
	t.Helper()
	bundb := bun.NewDB(db, pgdialect.New())
	gormdb, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{})
	require.NoError(t, err)
	sqlxdb := sqlx.NewDb(db, "pgx")
	entdriver := entsql.OpenDB(dialect.Postgres, db)
	return map[string]func(context.Context, announce) error{
		"sqlx": func(ctx context.Context, do announce) error {
			tx, err := sqlxdb.BeginTxx(ctx, nil)
			if err != nil {
				return err
			}
			return end(tx, do(tx))
		},
		"bun": func(ctx context.Context, do announce) error {
			return bundb.RunInTx(ctx, nil, func(_ context.Context, tx bun.Tx) error { return do(tx) })
		},
		"ent": func(ctx context.Context, do announce) error {
			tx, err := entdriver.BeginTx(ctx, nil) // what the generated *ent.Tx calls
			if err != nil {
				return err
			}
			return end(tx, do(tx.(*entsql.Tx)))
		},
		"gorm": func(ctx context.Context, do announce) error {
			return gormdb.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return do(tx.Statement.ConnPool) })
		},
		"sqlc": func(ctx context.Context, do announce) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			q := (&queries{db: db}).WithTx(tx)
			return end(tx, errors.Join(q.SellOrder(ctx, 7), do(tx)))
		},
	}
}

// end commits, or rolls back after an error.
func end(tx interface {
	Commit() error
	Rollback() error
}, err error,
) error {
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Each library publishes in its transaction: what commits is heard, and what is rolled back is not.
func TestNotifySQLTx(t *testing.T) {
	dsn := pgtest.Database(t)
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(pgtest.Within(t), `CREATE TABLE orders (id bigint PRIMARY KEY, status text); INSERT INTO orders VALUES (7, 'new')`)
	require.NoError(t, err)
	pool := pgtest.Pool(t, dsn)
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	var got []string // by the consumer's goroutine, until the hub has stopped
	_, err = hub.Consumer(pgtest.Within(t), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			got = append(got, string(ev.Value))
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	require.NoError(t, err)
	require.NoError(t, hub.Start(pgtest.Within(t)))

	var want []string
	undo := errors.New("undo")
	for name, inTx := range libraries(t, db) {
		ctx := pgtest.Within(t)
		require.NoError(t, inTx(ctx, func(tx pghub.SQLExecer) error { return hub.NotifySQLTx(ctx, tx, "orders", []int64{7}, name) }), name)
		require.ErrorIs(t, inTx(ctx, func(tx pghub.SQLExecer) error {
			return errors.Join(hub.NotifySQLTx(ctx, tx, "orders", []int64{7}, "undone by "+name), undo)
		}), undo, name)
		want = append(want, `"`+name+`"`)
	}
	require.NoError(t, hub.Stop(pgtest.Within(t)))
	require.Equal(t, want, got)
}

var _ = stdlib.GetDefaultDriver // registers pgx
