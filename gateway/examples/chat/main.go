// Command chat is a chat page on table inserts: what is inserted into chat_messages, by the page or by psql, appears on
// every page. See README.md.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/sql"
)

//go:embed schema.sql
var schema string

//go:embed page.html
var page []byte

// message is a row of chat_messages.
type message struct {
	ID     int64     `json:"id"`
	Author string    `json:"author"`
	Body   string    `json:"body"`
	At     time.Time `json:"at"`
}

// chat serves the page, the messages so far, and new ones.
type chat struct {
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
	c, err := newChat(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: c.routes(), ReadHeaderTimeout: 10 * time.Second, ConnContext: gateway.ConnContext}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- server.Shutdown(ctx) }() // stops listening at once, and waits for event streams
		_ = c.gw.Shutdown(ctx)                        // who does not leave in time is cut off
		<-ended
	})
	log.Printf("open http://%s/ in two windows, or: psql \"$DATABASE_URL\" -c \"INSERT INTO chat_messages (author, body) VALUES ('psql', 'hello')\"", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped // ListenAndServe returns at the beginning of Shutdown
	return c.stop()
}

func newChat(ctx context.Context, dsn string) (*chat, error) {
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
	gw, err := gateway.New(hub, gateway.Config{Topics: []string{"chat"}, NoViewer: true})
	return &chat{pool, hub, gw}, err
}

func (c *chat) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.hub.Stop(ctx)
	c.pool.Close()
	return err
}

func (c *chat) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/pg/", http.StripPrefix("/pg", c.gw))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	mux.HandleFunc("GET /messages", c.list)
	mux.Handle("POST /messages", http.NewCrossOriginProtection().Handler(http.HandlerFunc(c.say)))
	return mux
}

// list answers with the last messages, oldest first.
func (c *chat) list(w http.ResponseWriter, r *http.Request) {
	rows, err := c.pool.Query(r.Context(), "SELECT * FROM (SELECT id, author, body, at FROM chat_messages ORDER BY id DESC LIMIT 100) AS last ORDER BY id")
	if err == nil {
		var messages []message
		if messages, err = pgx.CollectRows(rows, pgx.RowToStructByPos[message]); err == nil {
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(append([]message{}, messages...))
		}
	}
	if err != nil {
		log.Print(err)
		http.Error(w, "the messages cannot be had at the moment", http.StatusServiceUnavailable)
	}
}

// say inserts a row; the event that follows brings it to every page, this one too.
func (c *chat) say(w http.ResponseWriter, r *http.Request) {
	var m message
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&m); err != nil {
		http.Error(w, "not a message", http.StatusBadRequest)
		return
	}
	_, err := c.pool.Exec(r.Context(), "INSERT INTO chat_messages (author, body) VALUES ($1, $2)", m.Author, m.Body)
	if err != nil {
		log.Print(fmt.Errorf("say: %w", err))
		http.Error(w, "not said", http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
