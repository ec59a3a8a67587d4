package sql_test

import (
	"context"
	"fmt"
	"log"
	"testing"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// From an empty database to events of a table. A service may do all of this whenever it starts.
func ExampleApply() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))

	exec := func(statement string) {
		if _, err := pool.Exec(ctx, statement); err != nil {
			log.Fatal(err)
		}
	}
	if err := sql.Install(ctx, pool); err != nil {
		log.Fatal(err)
	}
	exec(`CREATE TABLE people (id bigint PRIMARY KEY, name text, photo bytea);
		CREATE TABLE orders (id bigint PRIMARY KEY)`)
	if err := sql.Apply(ctx, pool,
		sql.Watch{Table: "people", Exclude: []string{"photo"}}, // an event a row, with the row
		sql.Watch{Table: "orders", Level: sql.Statement},       // an event a statement, with the keys of its rows
	); err != nil {
		log.Fatal(err)
	}

	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	_, err = hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			return
		}
		change, err := pghub.Decode[pghub.Change](ev)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %v row=%s\n", change.Op, change.Table, ev.Key, change.Row)
	}, &pghub.ConsumerConfig{Topics: []string{"people", "orders"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Start(ctx); err != nil {
		log.Fatal(err)
	}
	exec(`INSERT INTO people VALUES (7, 'Ada', 'smile')`)
	exec(`INSERT INTO orders SELECT generate_series(1, 5)`)
	exec(`DELETE FROM people`)
	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	// Output:
	// insert people [7] row={"id":7,"name":"Ada"}
	// insert orders [1 2 3 4 5] row=
	// delete people [7] row={"id":7,"name":"Ada"}
}

// Install and Uninstall say by Version what there is.
func ExampleInstall() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb))

	before, err := sql.Version(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 { // the second time it does nothing
		if err := sql.Install(ctx, pool); err != nil {
			log.Fatal(err)
		}
	}
	after, err := sql.Version(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("before:", before, "installed:", after > 0)
	fmt.Println(sql.Uninstall(ctx, pool))
	// Output:
	// before: 0 installed: true
	// <nil>
}
