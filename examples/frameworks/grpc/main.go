// Grpc streams changes of orders to gRPC clients, see orders.proto.
//
//	DATABASE_URL=postgres:///shop go run ./examples/frameworks/grpc
//	psql shop -c "NOTIFY orders, 'e7:{\"status\":\"sold\"}'"
//
// It ends at an interrupt.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"

	"github.com/pghub/pghub"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", "localhost:8090")
	if err == nil {
		err = run(ctx, os.Getenv("DATABASE_URL"), listener)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database string, listener net.Listener) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "grpc"})
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&ordersDesc, orders{hub})
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel() // without a server there is nothing to run for
		served <- server.Serve(listener)
	}()
	ran := hub.Run(ctx)                                // ends calls with UNAVAILABLE on its way out
	kill := time.AfterFunc(5*time.Second, server.Stop) // of a client that does not read
	defer kill.Stop()
	server.GracefulStop() // waits for them
	if err := <-served; err != nil {
		return err
	}
	return ran
}
