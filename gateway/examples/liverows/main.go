// Command liverows shows the rows of a table as they are: whatever changes them, the page follows. See README.md.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/sql"
)

//go:embed schema.sql
var schema string

//go:embed page.html
var page []byte

// live serves the page, the rows as they are, and their changes.
type live struct {
	pool *pgxpool.Pool
	hub  *pghub.Hub
	gw   *gateway.Gateway
}

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "address to serve on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address string) error {
	l, err := newLive(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: l.routes(), ReadHeaderTimeout: 10 * time.Second, ConnContext: gateway.ConnContext}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- server.Shutdown(ctx) }() // stops listening at once, and waits for event streams
		_ = l.gw.Shutdown(ctx)                        // who does not leave in time is cut off
		<-ended
	})
	log.Printf("open http://%s/, then: psql \"$DATABASE_URL\" -c \"UPDATE stock SET remaining = remaining - 1 WHERE id = 1\"", address)
	go l.sell(ctx, time.Second)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped // ListenAndServe returns at the beginning of Shutdown
	return l.stop()
}

func newLive(ctx context.Context, dsn string) (*live, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := sql.Install(ctx, pool); err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, schema); err != nil {
		return nil, err
	}
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		return nil, err
	}
	if err := hub.Start(ctx); err != nil {
		return nil, err
	}
	gw, err := gateway.New(hub, gateway.Config{Topics: []string{"stock"}, NoViewer: true})
	return &live{pool, hub, gw}, err
}

func (l *live) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := l.hub.Stop(ctx)
	l.pool.Close()
	return err
}

func (l *live) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/pg/", http.StripPrefix("/pg", l.gw))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	mux.HandleFunc("GET /rows", l.rows)
	return mux
}

// rows answers with the table as it is, in the form that events have rows in.
func (l *live) rows(w http.ResponseWriter, r *http.Request) {
	var rows []byte
	err := l.pool.QueryRow(r.Context(), "SELECT coalesce(json_agg(s ORDER BY id), '[]') FROM stock AS s").Scan(&rows)
	if err != nil {
		log.Print(err)
		http.Error(w, "the rows cannot be had at the moment", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(rows)
}

// sell keeps the table moving, as other programs would.
func (l *live) sell(ctx context.Context, every time.Duration) {
	clock := time.NewTicker(every)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
		}
		_, err := l.pool.Exec(ctx, `UPDATE stock SET remaining = CASE WHEN remaining < 5 THEN 100 ELSE remaining - 1 - (random() * 3)::int END
			WHERE id = (SELECT id FROM stock ORDER BY random() LIMIT 1)`)
		if err != nil && ctx.Err() == nil {
			log.Print(err) // and again in a moment: the database may be away
		}
	}
}
