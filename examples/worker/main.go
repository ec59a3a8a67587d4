// Worker is a pool of workers on a table of jobs, woken by events: no polling while there is nothing to do, and no job lost
// when events are. What there is to copy is in jobs.go.
//
//	go run ./examples/worker
//	psql "$DATABASE_URL" -c "INSERT INTO jobs (task) SELECT 'task ' || n FROM generate_series(1, 10) n"
//
// It uses the PostgreSQL server that DATABASE_URL names, and makes a table jobs there, with a trigger. Start it several times:
// each job is done once.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/sql"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)                         // a second signal ends the process at once
	if err := run(ctx); err != nil && ctx.Err() == nil { // whoever is told to stop while it starts has not failed
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
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "worker", OnError: func(err error) { log.Print(err) }})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	w, err := newWorkers(ctx, hub, pool, 4, func(_ context.Context, j job) error {
		fmt.Printf("job %d: %s\n", j.ID, j.Task)
		return nil
	})
	if err != nil {
		return err
	}
	group.Go(func() error { return hub.Run(ctx) })
	group.Go(func() error { w.run(ctx); return nil })
	return group.Wait()
}

// setUp makes the table, and a trigger that says once a transaction that there are new jobs.
func setUp(ctx context.Context, pool *pgxpool.Pool) error {
	if err := sql.Install(ctx, pool); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Many workers may start at once, and CREATE TABLE IF NOT EXISTS fails when two of them run it together.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('jobs', 0))`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task text NOT NULL)`)
		return err
	})
	if err != nil {
		return err
	}
	return sql.Apply(ctx, pool, sql.Watch{Table: "jobs", Level: sql.Change, Operations: []sql.Operation{sql.Insert}})
}
