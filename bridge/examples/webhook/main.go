// Webhook brings rows of a table to a receiver by HTTP, each at least once and in order, signed: a trigger writes to the stream in
// the transaction that changes the table, a bridge sends, and the receiver checks the signature and goes by the ID. The receiver
// fails now and then, and refuses one of the orders, which is parked with what it has said. What there is to copy is in newBridge,
// and in receiver.go.
//
//	go run ./bridge/examples/webhook
//
// It uses the PostgreSQL server that DATABASE_URL names, in a schema pghub_example that it removes in the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/webhook"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

const (
	route  = "pghub_example"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // yours comes from where you keep secrets
	orders = 20
)

func main() {
	if err := run(os.Getenv("DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

// newBridge makes the bridge: one route from the stream to a URL.
func newBridge(s *stream.Stream, url string) (*bridge.Bridge, error) {
	sink, err := webhook.New(webhook.Config{URL: url, Secrets: []string{secret}})
	if err != nil {
		return nil, err
	}
	return bridge.New(bridge.Config{
		Routes: []bridge.Route{{
			Name:       route,
			Source:     bridge.FromStream(s, &bridge.StreamConfig{From: stream.Latest}),
			Topics:     []string{"pghub_example.orders"},
			Sink:       sink,
			Target:     "/orders/{value.op}",
			Format:     bridge.CloudEvents,
			CloudEvent: bridge.CloudEvent{Type: "com.example.order.{value.op}", Subject: "orders/{key}"},
			RetryMin:   time.Millisecond, // the receiver is next door
		}},
		OnError: func(err error) { log.Print(err) },
	})
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

	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		return err
	}
	defer func() { _ = hub.Stop(context.WithoutCancel(ctx)) }() // behind the bridge
	s, err := stream.Open(ctx, hub, stream.Config{})
	if err != nil {
		return err
	}
	if err := hub.Start(ctx); err != nil {
		return err
	}

	in := newReceiver()
	server := httptest.NewServer(in)
	defer server.Close()
	b, err := newBridge(s, server.URL)
	if err != nil {
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = b.Stop(context.WithoutCancel(ctx)) }()

	for id := 1; id <= orders; id++ {
		if _, err := pool.Exec(ctx, `INSERT INTO pghub_example.orders VALUES ($1, 'new')`, id); err != nil {
			return err
		}
	}
	if err := in.await(ctx, orders-1); err != nil {
		return err
	}
	if err := b.Stop(ctx); err != nil { // what was sent is confirmed, and the position stored
		return err
	}
	st := b.Stats().Routes[0]
	var parked string
	if err := pool.QueryRow(ctx, `SELECT error FROM pghub.stream_parked WHERE consumer = $1`, "bridge."+route).Scan(&parked); err != nil {
		return err
	}
	fmt.Printf("%d orders arrived, in order; %d were sent again, %d is parked\n", st.Confirmed, st.Retried, st.Parked)
	fmt.Println(parked)
	return nil
}

// setUp makes a table whose changes go to the stream. tearDown removes it, and schema pghub only if it was not there before.
func setUp(ctx context.Context, pool *pgxpool.Pool) (tearDown func() error, err error) {
	version, err := sql.Version(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := sql.Install(ctx, pool); err != nil {
		return nil, err
	}
	tearDown = func() error {
		ctx := context.WithoutCancel(ctx)
		_, err := pool.Exec(ctx, `DROP SCHEMA IF EXISTS pghub_example CASCADE`)
		if version == 0 {
			return errors.Join(err, sql.Uninstall(ctx, pool))
		}
		_, forgotten := pool.Exec(ctx, `SELECT pghub.forget($1)`, "bridge."+route)
		return errors.Join(err, forgotten)
	}
	const table = `DROP SCHEMA IF EXISTS pghub_example CASCADE; CREATE SCHEMA pghub_example;
		CREATE TABLE pghub_example.orders (id bigint PRIMARY KEY, state text NOT NULL)`
	if _, err = pool.Exec(ctx, table); err == nil {
		err = sql.Apply(ctx, pool, sql.Watch{Table: "pghub_example.orders", Topic: "pghub_example.orders", Level: sql.Row, Durable: true})
	}
	if err != nil {
		return nil, errors.Join(err, tearDown())
	}
	return tearDown, nil
}
