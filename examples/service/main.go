// Service is the skeleton of a service that lives with pghub: the hub runs in an errgroup next to an HTTP server, the
// server says whether events get through, and SIGINT or SIGTERM stops both, gracefully.
//
//	go run ./examples/service
//	curl -i localhost:8080/readyz
//	curl -i localhost:8080/orders/7 -d '{"item":"book"}'
//
// DATABASE_URL names the PostgreSQL server. ADDR is where to serve HTTP, localhost:8080 unless it is set.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/pghub/pghub"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, log); err != nil {
		log.Error("service failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL")) // does not connect yet
	if err != nil {
		return err
	}
	defer pool.Close()
	// With a Logger, the hub writes a line whenever it connects, loses the connection, or meets trouble.
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "service", Logger: log})
	if err != nil {
		return err
	}
	if _, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		log.Info("event", "topic", ev.Topic, "key", ev.Key, "value", string(ev.Value))
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}}); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "localhost:8080"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(hub, log), ReadHeaderTimeout: 5 * time.Second}
	log.Info("serving HTTP", "addr", listener.Addr())

	// Whichever part fails ends the others. On the way out HTTP comes first and the hub last, because requests under
	// way may still call Notify.
	group, ctx := errgroup.WithContext(ctx)
	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		return hub.Run(hubCtx) // waits for a server that is away, however long; /readyz says so meanwhile
	})
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		defer stopHub()
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(grace)
	})
	return group.Wait()
}

func routes(hub *pghub.Hub, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	// A process that answers is alive. It must not ask the database: while that is away every process would be restarted,
	// again and again, and all of them would come back at once.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	// It is ready for requests when an event that it publishes comes back to it.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if _, err := hub.Check(ctx); err != nil {
			log.Warn("not ready", "error", err)
			http.Error(w, hub.State().String(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, hub.State())
	})
	mux.HandleFunc("POST /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			http.Error(w, "the order's id is not an integer", http.StatusBadRequest)
			return
		}
		var order json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&order); err != nil {
			http.Error(w, "the order is not JSON", http.StatusBadRequest)
			return
		}
		err = hub.Notify(r.Context(), "orders", []int64{id}, order)
		switch {
		case err == nil:
			w.WriteHeader(http.StatusNoContent) // committed
		case errors.Is(err, pghub.ErrPayloadTooLarge):
			http.Error(w, "the order is too large", http.StatusRequestEntityTooLarge)
		case errors.Is(err, pghub.ErrUnknownOutcome):
			http.Error(w, "the order may or may not have been announced", http.StatusInternalServerError)
		default: // nothing was sent: not connected, or not yet, or no longer
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		}
	})
	return mux
}
