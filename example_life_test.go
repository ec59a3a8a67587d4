package pghub_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pghub/pghub"
)

// Run is for a service: it waits for a server that is away, and stops gracefully when its context ends.
func ExampleHub_Run() {
	pool, closePool := openPool() // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	defer closePool()
	ctx, stop := context.WithCancel(context.Background()) // as signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	_, err = hub.Consumer(ctx, func(ctx context.Context, ev *pghub.Event) {
		switch {
		case ev.Advisory == nil:
			fmt.Println("event:", ev.Topic, ev.Key)
			stop() // as Ctrl-C does
		case ev.Advisory.Action == pghub.ActionSubscribe:
			if err := hub.Notify(ctx, "orders", []int64{7}, nil); err != nil {
				log.Fatal(err)
			}
		default:
			fmt.Println(ev.Advisory.Action)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println("Run:", hub.Run(ctx))
	fmt.Println(hub.State())
	// Output:
	// connect
	// event: orders [7]
	// stop
	// Run: <nil>
	// stopped
}

// A cache has one function that reads everything: it is called when the subscription is in effect, and after each gap.
// Nothing can change in between without an event that comes behind it.
func ExampleConsumerConfig() {
	ctx := context.Background()
	hub, pool, end := openHub()
	defer end()
	if _, err := pool.Exec(ctx, `CREATE TABLE prices (id bigint PRIMARY KEY, price int); INSERT INTO prices VALUES (7, 10)`); err != nil {
		log.Fatal(err)
	}

	loaded := make(chan int)
	_, err := hub.Consumer(ctx, func(context.Context, *pghub.Event) {
		// read the row that the event names
	}, &pghub.ConsumerConfig{
		Topics:      []string{"prices"},
		ResyncFirst: true,
		Resync: func(ctx context.Context, gap pghub.Gap) error {
			var price int
			if err := pool.QueryRow(ctx, `SELECT price FROM prices WHERE id = 7`).Scan(&price); err != nil {
				return err // it will be called again
			}
			loaded <- price
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("price:", <-loaded)

	// The connection is lost, and a change is missed.
	const loss = `SELECT pg_terminate_backend(%d); UPDATE prices SET price = 12; NOTIFY prices, 'e7'`
	if _, err := pool.Exec(ctx, fmt.Sprintf(loss, hub.Stats().PID)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("price:", <-loaded)
	// Output:
	// price: 10
	// price: 12
}

// Where LISTEN is impossible, as it is through some poolers, a hub lives by ResyncEvery alone.
func ExampleConfig_pollOnly() {
	ctx := context.Background()
	pool, closePool := openPool()
	defer closePool()
	if _, err := pool.Exec(ctx, `CREATE TABLE stock (id bigint PRIMARY KEY, count int); INSERT INTO stock VALUES (7, 3)`); err != nil {
		log.Fatal(err)
	}
	hub, err := pghub.New(pghub.Config{Pool: pool, PollOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	counts := make(chan int, 1)
	last := 0
	_, err = hub.Consumer(ctx, func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
		Topics:       []string{"stock"},
		ResyncFirst:  true,
		ResyncEvery:  10 * time.Millisecond, // a minute, say, with a jitter of ten seconds
		ResyncJitter: time.Millisecond,
		Resync: func(ctx context.Context, _ pghub.Gap) error {
			var count int
			if err := pool.QueryRow(ctx, `SELECT count FROM stock WHERE id = 7`).Scan(&count); err != nil {
				return err // it will be called again
			}
			if count != last {
				last = count
				counts <- count
			}
			return nil
		},
	})
	if err == nil {
		err = hub.Start(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in stock:", <-counts)
	if _, err := pool.Exec(ctx, `UPDATE stock SET count = 2`); err != nil {
		log.Fatal(err)
	}
	fmt.Println("in stock:", <-counts)
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// in stock: 3
	// in stock: 2
}

// Drain ends one consumer: it gets what waits in its queue, and then close.
func ExampleConsumer_Drain() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	arrived := make(chan struct{})
	consumer, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		switch {
		case ev.Advisory == nil:
			fmt.Println("event:", ev.Key)
			close(arrived)
		case ev.Advisory.Final:
			fmt.Println("last event:", ev.Advisory.Action)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Notify(ctx, "orders", []int64{7}, nil); err != nil {
		log.Fatal(err)
	}
	<-arrived // Drain does not wait for what is still on its way, as Stop does
	if err := consumer.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("drained:", consumer.Topics())
	// Output:
	// event: [7]
	// last event: close
	// drained: []
}

// Topics come and go. When Subscribe returns, the server has acknowledged LISTEN.
func ExampleConsumer_Subscribe() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	consumer, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			fmt.Println("event:", ev.Topic)
		}
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := consumer.Subscribe(ctx, "room 1", "room 2"); err != nil {
		log.Fatal(err)
	}
	if err := hub.Notify(ctx, "room 2", nil, "hello"); err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	// Output:
	// event: room 2
}

// What triggers often send is JSON and nothing else. JSONCodec makes all of it the value.
func ExampleJSONCodec() {
	ctx := context.Background()
	hub, pool, end := openHub()
	defer end()

	_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			return
		}
		order, err := pghub.Decode[Order](ev)
		fmt.Println(order.Item, order.Count, err)
	}, &pghub.ConsumerConfig{Topics: []string{"orders"}, Codec: pghub.JSONCodec{}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `SELECT pg_notify('orders', '{"item": "book", "count": 2}')`); err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// book 2 <nil>
}

// Any text may be sent and received.
func ExampleRawCodec() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			fmt.Printf("%s\n", ev.Payload)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"log"}, Codec: pghub.RawCodec{}})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.NotifyPayload(ctx, "log", "one line, as it is"); err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// one line, as it is
}
