package livecache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/livecache"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// Prices are read from the table once, and again when they have changed.
func ExampleNew() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	_, err := pool.Exec(ctx, `CREATE TABLE prices (id bigint PRIMARY KEY, price bigint); INSERT INTO prices VALUES (7, 99)`)
	require.NoError(tb, err)
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(tb, err)
	defer func() { _ = hub.Stop(ctx) }()
	require.NoError(tb, hub.Start(ctx))

	delivered := make(chan struct{}, 1)
	prices, err := livecache.New(ctx, hub, livecache.Config[int64, int64]{
		Topic: "prices",
		Key: func(ev *pghub.Event) ([]int64, error) {
			defer func() { delivered <- struct{}{} }()
			return livecache.Rows(ev)
		},
		Load: func(ctx context.Context, ids []int64) (map[int64]int64, error) {
			fmt.Println("load", ids)
			found := make(map[int64]int64)
			rows, err := pool.Query(ctx, `SELECT id, price FROM prices WHERE id = ANY($1)`, ids)
			if err != nil {
				return nil, err
			}
			for rows.Next() {
				var id, price int64
				if err := rows.Scan(&id, &price); err != nil {
					return nil, err
				}
				found[id] = price
			}
			return found, rows.Err()
		},
	})
	require.NoError(tb, err)
	defer func() { _ = prices.Close() }()
	<-prices.Ready()

	for range 2 {
		price, found, err := prices.Get(ctx, 7)
		fmt.Println(price, found, err)
	}
	_, err = pool.Exec(ctx, `UPDATE prices SET price = 79 WHERE id = 7; NOTIFY prices, 'e7'`) // or a trigger of pghub.watch
	require.NoError(tb, err)
	<-delivered
	prices.Invalidate(7) // the event may be a moment later than this line
	price, found, err := prices.Get(ctx, 7)
	fmt.Println(price, found, err)
	// Output:
	// load [7]
	// 99 true <nil>
	// 99 true <nil>
	// load [7]
	// 79 true <nil>
}
