package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

const (
	accounts = 20
	payments = 1000
)

// office is what a process would be: a pool, a hub and a stream.
type office struct {
	pool   *pgxpool.Pool
	hub    *pghub.Hub
	stream *stream.Stream
}

func newOffice(ctx context.Context, dsn, name string) (*office, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = name
	o := &office{}
	if o.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, err
	}
	if o.hub, err = pghub.New(pghub.Config{Pool: o.pool, ReconnectMax: time.Second}); err != nil {
		o.pool.Close()
		return nil, err
	}
	if o.stream, err = stream.Open(ctx, o.hub, stream.Config{}); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *office) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = o.hub.Stop(ctx)
	o.pool.Close()
}

func show(dsn string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
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

	till, err := newOffice(ctx, dsn, "till")
	if err != nil {
		return err
	}
	defer till.close()
	var books [2]*stream.Durable
	for i := range books {
		o, err := newOffice(ctx, dsn, "bookkeeper")
		if err != nil {
			return err
		}
		defer o.close()
		if books[i], err = newLedger(ctx, o.stream, clumsy(book)); err != nil {
			return err
		}
	}

	truth := make(map[int64]int64)
	for n := range payments {
		account, cents := rand.Int64N(accounts), rand.Int64N(10_000)-5_000
		truth[account] += cents
		if err := till.stream.Publish(ctx, "payments", []int64{account}, payment{cents}); err != nil {
			return err
		}
		switch n {
		case payments / 3: // all connections of both bookkeepers are cut
			_, err = pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name LIKE 'bookkeeper%' AND datname = current_database()`)
		case payments * 2 / 3: // the first one goes, in the middle of whatever it does
			books[0].Close()
		}
		if err != nil {
			return err
		}
	}
	if err := untilDone(ctx, pool); err != nil {
		return err
	}
	return compare(ctx, pool, truth)
}

// clumsy is a handler that fails now and then when all its work is done.
func clumsy(book stream.TxHandler) stream.TxHandler {
	return func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		if err := book(ctx, tx, events); err != nil {
			return err
		}
		if rand.IntN(20) == 0 {
			return stream.RetryAfter(time.Millisecond, errors.New("spilt ink"))
		}
		return nil
	}
}

// untilDone waits until all payments are booked.
func untilDone(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var booked int
		err := pool.QueryRow(ctx, `SELECT coalesce(sum(payments), 0) FROM pghub_example.balances`).Scan(&booked)
		if err != nil || booked >= payments {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func compare(ctx context.Context, pool *pgxpool.Pool, truth map[int64]int64) error {
	rows, err := pool.Query(ctx, `SELECT account, cents FROM pghub_example.balances`)
	if err != nil {
		return err
	}
	booked := make(map[int64]int64)
	var account, cents int64
	if _, err := pgx.ForEachRow(rows, []any{&account, &cents}, func() error {
		booked[account] = cents
		return nil
	}); err != nil {
		return err
	}
	if !maps.Equal(booked, truth) {
		return fmt.Errorf("the ledger is wrong: %v instead of %v", booked, truth)
	}
	fmt.Printf("%d payments were booked, each once: the balances of %d accounts are right\n", payments, len(booked))
	return nil
}

// setUp makes the table. tearDown removes all of it, and schema pghub only if it was not there before.
func setUp(ctx context.Context, pool *pgxpool.Pool) (tearDown func() error, err error) {
	version, err := sql.Version(ctx, pool)
	if err != nil {
		return nil, err
	}
	tearDown = func() error {
		ctx := context.WithoutCancel(ctx)
		_, err := pool.Exec(ctx, `DROP SCHEMA IF EXISTS pghub_example CASCADE`)
		if version == 0 {
			return errors.Join(err, sql.Uninstall(ctx, pool))
		}
		_, forgotten := pool.Exec(ctx, `SELECT pghub.forget('ledger')`)
		return errors.Join(err, forgotten)
	}
	if err := sql.Install(ctx, pool); err != nil {
		return nil, err
	}
	const table = `
		DROP SCHEMA IF EXISTS pghub_example CASCADE;
		CREATE SCHEMA pghub_example;
		CREATE TABLE pghub_example.balances (account bigint PRIMARY KEY, cents bigint NOT NULL, payments bigint NOT NULL)`
	if _, err := pool.Exec(ctx, table); err != nil {
		return nil, errors.Join(err, tearDown())
	}
	return tearDown, nil
}
