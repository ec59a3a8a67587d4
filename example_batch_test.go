package pghub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pghub/pghub"
)

// What waits is handled together, and of each row only the latest change.
func ExampleHub_BatchConsumer() {
	ctx := context.Background()
	hub, pool, end := openHub()
	defer end()

	prices, calls := map[int64]string{}, 0
	_, err := hub.BatchConsumer(ctx, func(_ context.Context, events []*pghub.Event) {
		if events[0].Advisory != nil {
			return // comes alone
		}
		for _, ev := range events {
			prices[ev.Key[0]] = string(ev.Value)
			calls++
		}
	}, &pghub.BatchConfig{
		ConsumerConfig: pghub.ConsumerConfig{Topics: []string{"prices"}},
		Latest:         true,
		Max:            1000,
	})
	if err != nil {
		log.Fatal(err)
	}

	// Ten thousand events, all of one commit.
	_, err = pool.Exec(ctx, `SELECT pg_notify('prices', 'e' || n % 2 || ':' || n) FROM generate_series(1, 10000) n`)
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	fmt.Println(prices, calls < 10000)
	// Output: map[0:10000 1:9999] true
}
