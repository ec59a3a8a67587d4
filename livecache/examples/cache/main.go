// Cache keeps copies of a table in memory fresh by events, across a lost connection too, and proves it: two caches, each
// with a hub of its own as if in two processes, while 256 rows are inserted, updated and deleted and one of the two loses
// its connection in the middle. In between somebody publishes nonsense on the topic. In the end it compares both with the
// table. What there is to copy is in prices.go.
//
//	go run ./livecache/examples/cache
//
// It uses the PostgreSQL server that DATABASE_URL names, in a schema pghub_example that it removes in the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/livecache"
	"github.com/pghub/pghub/sql"
)

func main() {
	if err := run(os.Getenv("DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

// setUp makes a table that announces, with each statement, the keys of the rows that it has changed. tearDown removes all
// of it, and schema pghub only if it was not there before.
func setUp(ctx context.Context, pool *pgxpool.Pool) (tearDown func() error, err error) {
	const table = `
		DROP SCHEMA IF EXISTS pghub_example CASCADE;
		CREATE SCHEMA pghub_example;
		CREATE TABLE pghub_example.prices (id bigint PRIMARY KEY, price bigint NOT NULL)`
	version, err := sql.Version(ctx, pool)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, table); err != nil {
		return nil, err
	}
	tearDown = func() error {
		ctx := context.WithoutCancel(ctx)
		_, err := pool.Exec(ctx, `DROP SCHEMA pghub_example CASCADE`)
		if version == 0 {
			err = errors.Join(err, sql.Uninstall(ctx, pool))
		}
		return err
	}
	if err := sql.Install(ctx, pool); err != nil {
		return nil, errors.Join(err, tearDown())
	}
	if err := sql.Apply(ctx, pool, sql.Watch{Table: "pghub_example.prices", Topic: "prices", Level: sql.Statement}); err != nil {
		return nil, errors.Join(err, tearDown())
	}
	return tearDown, nil
}

func run(dsn string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	tearDown, err := setUp(ctx, pool)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tearDown()) }()

	var hubs [2]*pghub.Hub
	var caches [2]*livecache.Cache[int64, int64]
	for i := range hubs {
		hubs[i], err = pghub.New(pghub.Config{Pool: pool, Name: fmt.Sprintf("cache %d", i+1)})
		if err != nil {
			return err
		}
		if err := hubs[i].Start(ctx); err != nil {
			return err
		}
		caches[i], err = newPrices(ctx, hubs[i], pool)
		if err != nil {
			return err
		}
		defer caches[i].Close()
		select {
		case <-caches[i].Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	if err := change(ctx, pool, hubs[0]); err != nil {
		return err
	}

	// The last change is to item 0. A cache that knows of it knows of all that was committed before.
	for _, cache := range caches {
		if err := await(ctx, cache, 0, 4711); err != nil {
			return err
		}
	}
	table, err := query(ctx, pool, `SELECT id, price FROM pghub_example.prices`)
	if err != nil {
		return err
	}
	for i, hub := range hubs {
		ids := make([]int64, 2000)
		for id := range ids {
			ids[id] = int64(id)
		}
		prices, err := caches[i].GetAll(ctx, ids)
		if err != nil {
			return err
		}
		if !maps.Equal(prices, table) {
			return fmt.Errorf("cache %d differs from the table", i+1)
		}
		if err := hub.Stop(ctx); err != nil {
			return err
		}
		st := hub.Stats()
		fmt.Printf("cache %d equals the table: %d rows, after %d events and %d reconnects\n", i+1, len(table), st.Received, st.Reconnects)
	}
	fmt.Println("the price of item 255 is", table[255])
	return nil
}

// await returns when a cache knows of a price.
func await(ctx context.Context, cache *livecache.Cache[int64, int64], id, want int64) error {
	for {
		price, _, err := cache.Get(ctx, id)
		if err != nil || price == want {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change is the work of those who know nothing of the caches, but for the one that ends the victim's connection.
func change(ctx context.Context, pool *pgxpool.Pool, victim *pghub.Hub) error {
	exec := func(sql string, args ...any) error {
		_, err := pool.Exec(ctx, sql, args...)
		return err
	}
	if err := exec(`INSERT INTO pghub_example.prices VALUES (0, 1)`); err != nil {
		return err
	}
	for id := 1; id <= 128; id++ {
		if err := exec(`INSERT INTO pghub_example.prices VALUES ($1, 10 * $1::bigint)`, id); err != nil {
			return err
		}
	}
	if err := errors.Join(
		exec(`INSERT INTO pghub_example.prices SELECT id, id * 10 FROM generate_series(129, 256) id`),
		exec(`UPDATE pghub_example.prices SET price = price + 1 WHERE id % 2 = 0`),
		exec(`NOTIFY prices, 'e1:x'`), // any role may

		// Most of what is committed until the victim listens again is missed by it.
		exec(`SELECT pg_terminate_backend($1)`, victim.Stats().PID),
		exec(`UPDATE pghub_example.prices SET price = price + 2 WHERE id % 3 = 0`),
		exec(`DELETE FROM pghub_example.prices WHERE id % 8 = 0 AND id > 0`),
	); err != nil {
		return err
	}
	for victim.Stats().Reconnects == 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(
		exec(`UPDATE pghub_example.prices SET id = id + 1000 WHERE id BETWEEN 1 AND 32`),
		exec(`DELETE FROM pghub_example.prices WHERE id % 8 = 1`),
		exec(`UPDATE pghub_example.prices SET price = 4711 WHERE id = 0`),
	)
}
