package main

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/livecache"
)

// newPrices returns a copy of table prices in memory, by item. All of it is read when the events come, and again after each gap;
// between those, a row is read again when somebody asks for it after it has changed.
func newPrices(ctx context.Context, hub *pghub.Hub, pool *pgxpool.Pool) (*livecache.Cache[int64, int64], error) {
	return livecache.New(ctx, hub, livecache.Config[int64, int64]{
		Topic: "prices",
		Key:   livecache.Rows,
		Load: func(ctx context.Context, ids []int64) (map[int64]int64, error) {
			return query(ctx, pool, `SELECT id, price FROM pghub_example.prices WHERE id = ANY($1)`, ids)
		},
		LoadAll: func(ctx context.Context) (map[int64]int64, error) {
			return query(ctx, pool, `SELECT id, price FROM pghub_example.prices`)
		},
		OnError: func(err error) { log.Print(err) }, // somebody has published what is not about rows: all is read again
	})
}

func query(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (map[int64]int64, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	prices := make(map[int64]int64)
	var id, price int64
	_, err = pgx.ForEachRow(rows, []any{&id, &price}, func() error {
		prices[id] = price
		return nil
	})
	return prices, err
}
