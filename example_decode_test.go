package pghub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pghub/pghub"
)

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
