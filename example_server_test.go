package pghub_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// openPool returns a pool on a fresh database.
func openPool() (pool *pgxpool.Pool, end func()) {
	tb, end := pgtest.Example()
	return pgtest.Pool(tb, pgtest.Database(tb)), end
}

// openHub returns a hub on a fresh database. It is started, and may be stopped by the example.
func openHub() (hub *pghub.Hub, pool *pgxpool.Pool, end func()) {
	pool, closePool := openPool()
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err == nil {
		err = hub.Start(context.Background())
	}
	if err != nil {
		panic(err)
	}
	return hub, pool, func() {
		_ = hub.Stop(context.Background()) // the context does not end
		closePool()
	}
}
