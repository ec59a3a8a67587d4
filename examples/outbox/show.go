package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub/sql"
)

const (
	mailEnv   = "OUTBOX_MAIL"   // the shop's: where to send mails
	closedEnv = "OUTBOX_CLOSED" // the shop's: take no orders

	kills = 5
)

// show has a shop work, kills it at random, and compares what it leaves.
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
	mails := &mailService{sent: make(map[string]int64)}
	server := httptest.NewServer(mails)
	defer server.Close()

	for range kills {
		if err := life(ctx, dsn, server.URL, true, mails.stallAt(1+rand.IntN(20))); err != nil {
			return err
		}
	}
	// The last shop takes no orders. It confirms what is left.
	done := make(chan struct{})
	waited := make(chan error, 1)
	go func() {
		waited <- untilDone(ctx, pool, mails)
		close(done)
	}()
	if err := errors.Join(life(ctx, dsn, server.URL, false, done), <-waited); err != nil {
		return err
	}
	return compare(ctx, pool, mails)
}

// life starts a shop, and kills it when end is closed.
func life(ctx context.Context, dsn, mail string, open bool, end <-chan struct{}) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn, mailEnv+"="+mail)
	if !open {
		cmd.Env = append(cmd.Env, closedEnv+"=yes")
	}
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // it ends if this process does
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-end:
		err := cmd.Process.Kill() // no signal that could be handled
		<-ended
		return err
	case err := <-ended:
		return fmt.Errorf("the shop has ended by itself: %w", err)
	}
}

// untilDone waits until there are as many mails as orders.
func untilDone(ctx context.Context, pool *pgxpool.Pool, mails *mailService) error {
	for {
		var orders int
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM pghub_example.orders`).Scan(&orders); err != nil || mails.count() >= orders {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compare says whether there is one mail for each order, and none else.
func compare(ctx context.Context, pool *pgxpool.Pool, mails *mailService) error {
	rows, err := pool.Query(ctx, `SELECT id FROM pghub_example.orders`)
	if err != nil {
		return err
	}
	orders, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	mails.mu.Lock()
	defer mails.mu.Unlock()
	confirmed := make(map[int64]int)
	for _, id := range mails.sent {
		confirmed[id]++
	}
	for _, id := range orders {
		if n := confirmed[id]; n != 1 {
			return fmt.Errorf("order %d has %d mails", id, n)
		}
		delete(confirmed, id)
	}
	for id := range confirmed {
		return fmt.Errorf("there is a mail for order %d, which was rolled back", id)
	}
	fmt.Printf("the shop was killed %d times, and has %d orders\n", kills, len(orders))
	fmt.Printf("%d mails were sent, one for each order; %d were asked for again, and not sent again\n", len(mails.sent), mails.again)
	return nil
}

// mailService sends mails, each key's once.
type mailService struct {
	mu    sync.Mutex
	sent  map[string]int64 // orders, by key
	again int              // requests for what was sent before
	left  int              // so many requests until one is not answered
	stall chan struct{}    // closed then
}

func (m *mailService) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent)
}

// stallAt has the nth mail from now be sent, and not answered. Whoever asked for it cannot know that it was sent.
func (m *mailService) stallAt(n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.stall = n, make(chan struct{})
	return m.stall
}

func (m *mailService) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var o order
	body, err := io.ReadAll(req.Body)
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if rand.IntN(10) == 0 {
		http.Error(w, "too busy", http.StatusServiceUnavailable)
		return
	}
	if m.send(req.Header.Get("Idempotency-Key"), o.ID) {
		<-req.Context().Done() // the shop is dead
	}
}

// send says whether the answer is to be held back.
func (m *mailService) send(key string, id int64) (stalled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, was := m.sent[key]; was {
		m.again++
	} else {
		m.sent[key] = id
	}
	if m.left--; m.left == 0 {
		close(m.stall)
		return true
	}
	return false
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
		_, forgotten := pool.Exec(ctx, `SELECT pghub.forget('confirmations')`)
		return errors.Join(err, forgotten)
	}
	if err := sql.Install(ctx, pool); err != nil {
		return nil, err
	}
	const table = `
		DROP SCHEMA IF EXISTS pghub_example CASCADE;
		CREATE SCHEMA pghub_example;
		CREATE TABLE pghub_example.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL)`
	if _, err := pool.Exec(ctx, table); err != nil {
		return nil, errors.Join(err, tearDown())
	}
	return tearDown, nil
}
