package pghub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pghub/pghub"
)

// orders is known to those who publish and to those who listen.
var orders = pghub.TopicOf[Order]("orders")

// A topic that knows the type of its values.
func ExampleTopicOf() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	_, err := orders.Consumer(ctx, hub, func(_ context.Context, key []int64, order Order) error {
		fmt.Printf("order %v: %d × %s\n", key, order.Count, order.Item)
		return nil // an error would go to Config.OnError
	}, &pghub.TopicConfig{
		Undecodable: func(_ context.Context, ev *pghub.Event, err error) {
			fmt.Printf("not understood: %s\n", ev.Payload)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	if err := orders.Notify(ctx, hub, []int64{7}, Order{Item: "book", Count: 2}); err != nil {
		log.Fatal(err)
	}
	if err := hub.NotifyPayload(ctx, "orders", "who knows"); err != nil { // any SQL may
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil { // delivers what was committed
		log.Fatal(err)
	}
	// Output:
	// order [7]: 2 × book
	// not understood: who knows
}
