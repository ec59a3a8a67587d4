package pghub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pghub/pghub"
)

// A transaction of database/sql: so it is with sqlx, bun, ent, gorm and sqlc, too.
func ExampleHub_NotifySQLTx() {
	ctx := context.Background()
	hub, pool, end := openHub()
	defer end()
	_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			fmt.Println("ordered:", ev.Key)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}

	db := stdlib.OpenDBFromPool(pool) // or sql.Open, with any driver
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE orders (id bigint PRIMARY KEY)"); err != nil {
		log.Fatal(err)
	}
	if err := hub.NotifySQLTx(ctx, tx, "orders", []int64{7}, nil); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil { // sends it
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ordered: [7]
}

// A command that has something to say, and nothing to hear.
func ExampleNewPublisher() {
	ctx := context.Background()
	pool, closePool := openPool() // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	defer closePool()

	publisher, err := pghub.NewPublisher(pghub.Config{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	if err := publisher.Notify(ctx, "imports", []int64{7}, "finished"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("published:", publisher.Stats().Published)
	// Output:
	// published: 1
}
