// Service is a small service whose hub and stream Prometheus watches: it publishes an event ten times a second, listens to them,
// keeps each in the stream as well, with a durable consumer that handles them, and serves /metrics.
//
//	DATABASE_URL=postgres:///shop LISTEN=127.0.0.1:9188 go run ./metrics/prometheus/examples/service
//
// It ends at an interrupt.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pghub/pghub"
	pghubprom "github.com/pghub/pghub/metrics/prometheus"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("LISTEN")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database, address string) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	if err != nil {
		return err
	}
	metrics := pghubprom.New(hub, nil)
	prometheus.MustRegister(metrics)

	_, err = hub.Consumer(ctx, func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
		Name:       "orders",
		Topics:     []string{"orders"},
		Middleware: []pghub.Middleware{metrics.Observe},
		Resync:     func(context.Context, pghub.Gap) error { return nil }, // read again what you keep
	})
	if err != nil {
		return err
	}
	if err := sql.Install(ctx, pool); err != nil {
		return err
	}
	kept, err := stream.Open(ctx, hub, stream.Config{})
	if err != nil {
		return err
	}
	prometheus.MustRegister(pghubprom.NewStream(hub, kept, nil), pghubprom.NewStreamStatus(hub, kept, nil))
	handle := func(context.Context, *pghub.Event) error { return nil }
	if _, err := kept.Durable(ctx, "billing", handle, nil); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // says only that it was closed
	defer func() { _ = server.Close() }()
	fmt.Printf("http://%s/metrics\n", listener.Addr())

	ran := make(chan error, 1)
	go func() { ran <- hub.Run(ctx) }()
	publish := time.NewTicker(100 * time.Millisecond)
	defer publish.Stop()
	for number := int64(0); ; number++ {
		select {
		case err := <-ran:
			return err
		case <-publish.C:
			err := errors.Join(hub.Notify(ctx, "orders", []int64{number}, nil), kept.Publish(ctx, "orders", []int64{number}, nil))
			if err != nil && ctx.Err() == nil {
				log.Print(err)
			}
		}
	}
}
