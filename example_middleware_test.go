package pghub_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pghub/pghub"
)

// What is done around every event is a function around the handler.
func ExampleMiddleware() {
	ctx := context.Background()
	hub, _, end := openHub()
	defer end()

	counted := 0
	count := func(next pghub.Handler) pghub.Handler {
		return func(ctx context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				counted++
			}
			next(ctx, ev)
		}
	}
	handle := func(ctx context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			_, limited := ctx.Deadline()
			fmt.Println(ev.Topic, string(ev.Value), limited)
		}
	}
	_, err := hub.Consumer(ctx, handle, &pghub.ConsumerConfig{
		Topics:     []string{"prices"},
		Middleware: []pghub.Middleware{count, pghub.Timeout(time.Minute)},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Notify(ctx, "prices", nil, 7); err != nil {
		log.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(counted)
	// Output:
	// prices 7 true
	// 1
}
