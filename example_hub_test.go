package pghub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
)

// A hub from its beginning to its end.
func ExampleNew() {
	ctx := context.Background()
	pool, closePool := openPool() // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	defer closePool()

	hub, err := pghub.New(pghub.Config{
		Pool:    pool,
		OnError: func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		fmt.Printf("topic=%s key=%v value=%s\n", ev.Topic, ev.Key, ev.Value)
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}

	// From here on the consumer gets whatever is committed.
	if err := hub.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := hub.Notify(ctx, "orders", []int64{7}, map[string]string{"item": "book"}); err != nil {
		log.Fatal(err)
	}
	// Up to here.
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// topic= key=[] value={"action":"connect","final":false}
	// topic= key=[] value={"action":"subscribe","topic":"orders","final":false}
	// topic=orders key=[7] value={"item":"book"}
	// topic= key=[] value={"action":"stop","final":true}
}

// A consumer that keeps something up to date: topics may come and go, and Resync is called at every gap.
func ExampleHub_Consumer() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	consumer, err := hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		switch {
		case ev.Advisory == nil:
			fmt.Println("event:", ev.Topic, ev.Key)
		case ev.Advisory.Final:
			fmt.Println("last event:", ev.Advisory.Action)
		}
	}, &pghub.ConsumerConfig{
		Topics:    []string{"orders"},
		QueueSize: 1000,
		Resync: func(ctx context.Context, gap pghub.Gap) error {
			return nil // fetch again what the events have told of so far
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := consumer.Subscribe(ctx, "prices", "stock"); err != nil {
		log.Fatal(err)
	}
	if err := consumer.Unsubscribe(ctx, "stock"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(consumer.Topics())

	for _, topic := range []string{"prices", "stock", "orders"} {
		if err := hub.Notify(ctx, topic, []int64{7}, nil); err != nil {
			log.Fatal(err)
		}
	}
	// Stop delivers what is queued in all consumers, Drain in one of them, and Close discards it.
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [orders prices]
	// event: prices [7]
	// event: orders [7]
	// last event: stop
}

// Keys and values are optional. Errors say whether anything was sent.
func ExampleHub_Notify() {
	hub, _, end := openHub()
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	err := errors.Join(
		hub.Notify(ctx, "orders", nil, nil),
		hub.Notify(ctx, "orders", []int64{7}, nil),
		hub.Notify(ctx, "orders", []int64{7, 8}, map[string]string{"status": "sold"}),
	)
	fmt.Println("published:", err == nil)

	err = hub.Notify(ctx, "orders", []int64{9}, strings.Repeat("x", 8000))
	switch {
	case err == nil: // committed
	case errors.Is(err, pghub.ErrNotConnected): // not sent: trying again is safe
	case errors.Is(err, pghub.ErrUnknownOutcome): // sent, perhaps
	default: // not sent
		fmt.Println(err)
	}
	// Output:
	// published: true
	// pghub: notify "orders": payload too large: 8005 bytes, the limit is 7999
}

// An event that is part of a transaction is sent by its commit, and not at all by a rollback.
func ExampleHub_NotifyTx() {
	ctx := context.Background()
	hub, pool, end := openHub()
	defer end()
	if _, err := pool.Exec(ctx, "CREATE TABLE orders (id bigint PRIMARY KEY, item text)"); err != nil {
		log.Fatal(err)
	}
	_, err := hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			fmt.Println("ordered:", ev.Key)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}

	order := func(id int64, item string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if err := hub.NotifyTx(ctx, tx, "orders", []int64{id}, nil); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", id, item)
			return err
		})
	}
	fmt.Println(order(7, "book"))
	fmt.Println(order(7, "another book") != nil) // rolled back: there is an order 7 already
	fmt.Println(order(8, "pen"))

	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	// Unordered output:
	// <nil>
	// true
	// <nil>
	// ordered: [7]
	// ordered: [8]
}

// The same events in a loop instead of a handler.
func ExampleHub_Events() {
	hub, _, end := openHub()
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	for ev := range hub.Events(ctx, "orders") {
		switch {
		case ev.Advisory == nil:
			fmt.Println("event:", ev.Topic, ev.Key)
			return // leaving the loop closes the consumer
		case ev.Advisory.Action == pghub.ActionSubscribe:
			fmt.Println("subscribed to", ev.Advisory.Topic)
			if err := hub.Notify(ctx, "orders", []int64{7}, nil); err != nil {
				log.Fatal(err)
			}
		case ev.Advisory.Final: // the hub has stopped, or ctx has ended
			fmt.Println("over:", ev.Advisory.Action, ev.Advisory.Err)
		}
	}
	// Output:
	// subscribed to orders
	// event: orders [7]
}

// Order is the value of events on topic orders.
type Order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

func ExampleDecode() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	_, err := hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			return // connect, subscribe, stop …
		}
		order, err := pghub.Decode[Order](ev)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("order %d: %d × %s\n", ev.Key[0], order.Count, order.Item)
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}

	if err := hub.Notify(ctx, "orders", []int64{7}, Order{Item: "book", Count: 2}); err != nil {
		log.Fatal(err)
	}
	if err := hub.NotifyPayload(ctx, "orders", `e8:{"item":"pen","count":"many"}`); err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	// Output:
	// order 7: 2 × book
	// pghub: undecodable payload on topic "orders": json: cannot unmarshal string into Go struct field Order.count of type int: "e8:{\"item\":\"pen\",\"count\":\"many\"}"
}
