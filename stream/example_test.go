package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// openExamplePool returns a pool on a fresh database with schema pghub.
func openExamplePool() (pool *pgxpool.Pool, end func()) {
	tb, end := pgtest.Example()
	pool = pgtest.Pool(tb, pgtest.Database(tb))
	if err := sql.Install(context.Background(), pool); err != nil {
		panic(err)
	}
	return pool, end
}

// openExample returns a stream of a hub of its own.
func openExample() (s *stream.Stream, pool *pgxpool.Pool, end func()) {
	pool, closePool := openExamplePool()
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err == nil {
		s, err = stream.Open(context.Background(), hub, stream.Config{})
	}
	if err != nil {
		panic(err)
	}
	return s, pool, func() {
		_ = hub.Stop(context.Background()) // the context does not end
		closePool()
	}
}

// A process with a durable consumer, from its beginning to its end.
func ExampleOpen() {
	ctx := context.Background()
	pool, closePool := openExamplePool() // as pgxpool.New(ctx, os.Getenv("DATABASE_URL")), and sql.Install(ctx, pool)
	defer closePool()

	hub, err := pghub.New(pghub.Config{Pool: pool, OnError: func(err error) { log.Print(err) }})
	if err != nil {
		log.Fatal(err)
	}
	s, err := stream.Open(ctx, hub, stream.Config{})
	if err != nil {
		log.Fatal(err)
	}
	handled := make(chan struct{})
	_, err = s.Durable(ctx, "billing", func(_ context.Context, ev *pghub.Event) error {
		fmt.Printf("topic=%s key=%v value=%s\n", ev.Topic, ev.Key, ev.Value)
		close(handled)
		return nil
	}, &stream.DurableConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := s.Publish(ctx, "orders", []int64{7}, map[string]string{"item": "book"}); err != nil {
		log.Fatal(err)
	}
	<-handled

	// The hub ends the stream too: handlers finish what they have begun, and the position is stored.
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: topic=orders key=[7] value={"item":"book"}
}

// Publish returns when the event is committed. Calls at the same time share a commit.
func ExampleStream_Publish() {
	ctx := context.Background()
	s, _, end := openExample()
	defer end()

	err := errors.Join(
		s.Publish(ctx, "orders", []int64{7}, map[string]string{"item": "book"}),
		s.Publish(ctx, "orders", nil, nil, stream.WithHeaders(map[string]string{"trace": "4bf92f35"})),
	)
	switch {
	case err == nil:
		fmt.Println("committed")
	case errors.Is(err, pghub.ErrNotConnected): // not written: trying again is safe
	case errors.Is(err, pghub.ErrUnknownOutcome): // written, perhaps
	default: // not written
		fmt.Println(err)
	}
	// Output: committed
}

// An event in a transaction is there if that commits, and not if it is rolled back. It follows the change that it is about.
func ExampleStream_PublishTx() {
	ctx := context.Background()
	s, pool, end := openExample()
	defer end()
	if _, err := pool.Exec(ctx, "CREATE TABLE orders (id bigint PRIMARY KEY, item text)"); err != nil {
		log.Fatal(err)
	}

	order := func(id int64, item string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", id, item); err != nil {
				return err
			}
			if err := s.PublishTx(ctx, tx, "orders", []int64{id}, item); err != nil {
				return err
			}
			if item == "" {
				return errors.New("nothing is ordered")
			}
			return nil
		})
	}
	fmt.Println(order(1, "book"))
	fmt.Println(order(2, ""))
	fmt.Println(order(3, "lamp"))

	n := 0
	for ev, err := range s.Follow(ctx, stream.Earliest, "orders") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("ordered:", ev.Key, string(ev.Value))
		if n++; n == 2 {
			break
		}
	}
	// Output:
	// <nil>
	// nothing is ordered
	// <nil>
	// ordered: [1] "book"
	// ordered: [3] "lamp"
}

// Read returns what is there, and ends. Follow waits for more.
func ExampleStream_Read() {
	ctx := context.Background()
	s, _, end := openExample()
	defer end()
	for _, item := range []string{"book", "lamp", "chair"} {
		if err := s.Publish(ctx, "orders", nil, item); err != nil {
			log.Fatal(err)
		}
	}

	var second pghub.Position
	n := 0
	for ev, err := range s.Follow(ctx, stream.Earliest) {
		if err != nil {
			log.Fatal(err) // a *stream.GapError, if the beginning is not kept any more
		}
		if n++; n == 2 {
			second = ev.Record.Position // of ev, and as text second.String()
		}
		if n == 3 {
			break
		}
	}
	for ev, err := range s.Read(ctx, stream.At(second), "orders") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(ev.Value))
	}
	// Output: "chair"
}

// A consumer that tries again what fails, and puts aside what will never work.
func ExampleStream_Durable() {
	ctx := context.Background()
	s, pool, end := openExample()
	defer end()

	done := make(chan struct{})
	d, err := s.Durable(ctx, "mails", func(_ context.Context, ev *pghub.Event) error {
		address, err := pghub.Decode[string](ev)
		switch {
		case err != nil:
			return stream.Skip(err) // parked at once
		case ev.Record.Attempt == 1:
			return errors.New("the mail server is busy") // comes again, in its place
		}
		fmt.Println("mail to", address, "at attempt", ev.Record.Attempt)
		if address == "bob@example.com" {
			close(done)
		}
		return nil
	}, &stream.DurableConfig{
		Topics: []string{"mails"},
		From:   stream.Earliest, // the first time
		Resync: func(_ context.Context, gap stream.Gap) error {
			return nil // events up to gap.Until may be missing: look at the tables
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, value := range []any{"ann@example.com", 7, "bob@example.com"} {
		if err := s.Publish(ctx, "mails", nil, value); err != nil {
			log.Fatal(err)
		}
	}
	<-done
	if err := d.Stop(ctx); err != nil { // the next one of this name goes on behind it
		log.Fatal(err)
	}
	var parked string
	if err := pool.QueryRow(ctx, `SELECT value FROM pghub.stream_parked WHERE consumer = 'mails'`).Scan(&parked); err != nil {
		log.Fatal(err)
	}
	fmt.Println("parked:", parked)
	// Output:
	// mail to ann@example.com at attempt 2
	// mail to bob@example.com at attempt 2
	// parked: 7
}

// The position is stored in the transaction of the work: each payment is booked once.
func ExampleStream_DurableTx() {
	ctx := context.Background()
	s, pool, end := openExample()
	defer end()
	if _, err := pool.Exec(ctx, "CREATE TABLE balances (account bigint PRIMARY KEY, cents bigint)"); err != nil {
		log.Fatal(err)
	}

	last := make(chan struct{})
	see := sync.OnceFunc(func() { close(last) })
	d, err := s.DurableTx(ctx, "ledger", func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			cents, err := pghub.Decode[int64](ev)
			if err != nil {
				return stream.Skip(err)
			}
			const sql = `INSERT INTO balances AS b VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET cents = b.cents + excluded.cents`
			if _, err := tx.Exec(ctx, sql, ev.Key[0], cents); err != nil {
				return err // nothing of it is done; the events come again
			}
			if cents == 5 {
				see()
			}
		}
		return nil
	}, &stream.DurableConfig{Topics: []string{"payments"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, cents := range []int64{100, -30, 5} {
		if err := s.Publish(ctx, "payments", []int64{7}, cents); err != nil {
			log.Fatal(err)
		}
	}
	<-last
	if err := d.Stop(ctx); err != nil { // which waits for the commit
		log.Fatal(err)
	}
	var cents int64
	if err := pool.QueryRow(ctx, "SELECT cents FROM balances WHERE account = 7").Scan(&cents); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cents)
	// Output: 75
}
