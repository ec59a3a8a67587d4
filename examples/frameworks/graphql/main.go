// Graphql serves a GraphQL subscription by Server-Sent Events, as graphql-sse has it in "distinct connections mode".
//
//	DATABASE_URL=postgres:///shop go run ./examples/frameworks/graphql
//	curl -N localhost:8091/graphql -H 'Accept: text/event-stream' \
//	    -d '{"query":"subscription { orders { ... on OrderChanged { id status } ... on Gap { reason } } }"}'
//	psql shop -c "NOTIFY orders, 'e7:{\"status\":\"sold\"}'"
//
// It ends at an interrupt.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/graph-gophers/graphql-go"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", "localhost:8091")
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
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "graphql"})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /graphql", subscriptions(graphql.MustParseSchema(schema, &resolver{hub})))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop() // without a server there is nothing to run for
		served <- server.Serve(listener)
	}()
	ran := hub.Run(ctx) // on its way out it ends subscriptions
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ran
}

// subscriptions answers a subscription with a stream: next for each element, and complete at the end.
func subscriptions(schema *graphql.Schema) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Query     string
			Variables map[string]any
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&request); err != nil {
			http.Error(w, "no GraphQL", http.StatusBadRequest)
			return
		}
		elements, err := schema.Subscribe(r.Context(), request.Query, "", request.Variables)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flush := http.NewResponseController(w).Flush
		for element := range elements {
			text, err := json.Marshal(element)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "event: next\ndata: %s\n\n", text); err != nil || flush() != nil {
				return // the client is gone, and with it the request's context: that ends the subscription
			}
		}
		fmt.Fprint(w, "event: complete\ndata:\n\n")
	})
}
