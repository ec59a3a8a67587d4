// Tail prints the events of a table of orders as they happen, decoded into Go types: a loop over events, and one place for what
// is not an event.
//
//	go run ./examples/tail
//	psql "$DATABASE_URL" -c "INSERT INTO orders (item, count) VALUES ('book', 2)"
//
// It uses the PostgreSQL server that DATABASE_URL names, and makes a table orders there, with a trigger.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/sql"
)

// order is a row of table orders.
type order struct {
	ID    int64  `json:"id"`
	Item  string `json:"item"`
	Count int    `json:"count"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := setUp(ctx, pool); err != nil {
		return err
	}
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "tail", OnError: func(err error) { log.Print(err) }})
	if err != nil {
		return err
	}
	if err := hub.Start(ctx); err != nil {
		return err
	}
	for ev := range hub.Events(ctx, "orders") { // until ctx ends
		if err := show(os.Stdout, ev); err != nil {
			log.Print(err)
		}
	}
	return hub.Stop(context.WithoutCancel(ctx))
}

// show writes a line for an event.
func show(w io.Writer, ev *pghub.Event) error {
	if a := ev.Advisory; a != nil {
		switch a.Action {
		case pghub.ActionSubscribe:
			fmt.Fprintln(w, "-- listening")
		case pghub.ActionReconnect:
			fmt.Fprintln(w, "-- the connection was lost: orders may be missing here")
		case pghub.ActionLag:
			fmt.Fprintf(w, "-- too slow: %d events are missing here\n", a.Dropped)
		}
		return nil
	}
	change, err := pghub.Decode[pghub.Change](ev)
	if err != nil {
		return err
	}
	if change.Truncated {
		fmt.Fprintf(w, "%s of order %v, which is too large to be shown\n", change.Op, ev.Key)
		return nil
	}
	var o order
	if err := json.Unmarshal(change.Row, &o); err != nil {
		return errors.Join(fmt.Errorf("not an order: %s", ev.Value), err)
	}
	fmt.Fprintf(w, "%s of order %d: %d × %s\n", change.Op, o.ID, o.Count, o.Item)
	return nil
}

// setUp makes the table, and a trigger that announces each row.
func setUp(ctx context.Context, pool *pgxpool.Pool) error {
	if err := sql.Install(ctx, pool); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS orders
		(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, count int NOT NULL)`)
	if err != nil {
		return err
	}
	return sql.Apply(ctx, pool, sql.Watch{
		Table:      "orders",
		Operations: []sql.Operation{sql.Insert, sql.Update, sql.Delete},
	})
}
