package main

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/graph-gophers/graphql-go"

	"github.com/pghub/pghub"
)

const schema = `
	type Query { state: String! }

	type Subscription {
		"What happens to orders: first Ready, then changes, and a Gap wherever some may be missing."
		orders: OrderEvent!
	}
	union OrderEvent = Ready | OrderChanged | Gap

	"The subscription is in effect: fetch what you want to keep up to date after it."
	type Ready { topic: String! }

	"An order has changed."
	type OrderChanged { id: ID!, status: String! }

	"Changes may be missing here: fetch again."
	type Gap { reason: String! }
`

type resolver struct{ hub *pghub.Hub }

func (r *resolver) State() string { return r.hub.State().String() }

// Orders is the subscription: it lasts until ctx ends, or the hub.
func (r *resolver) Orders(ctx context.Context) <-chan *orderEvent {
	events := make(chan *orderEvent)
	go func() {
		defer close(events)
		for ev := range r.hub.Events(ctx, "orders") {
			element, tell := elementOf(ev)
			if !tell {
				continue
			}
			select {
			case events <- &orderEvent{element}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events
}

// elementOf says what a subscriber is told of an event.
func elementOf(ev *pghub.Event) (element any, tell bool) {
	if ev.Advisory == nil {
		var order struct{ Status string }
		if len(ev.Key) != 1 || json.Unmarshal(ev.Value, &order) != nil {
			return &gap{"a change that cannot be read"}, true
		}
		return &orderChanged{graphql.ID(strconv.FormatInt(ev.Key[0], 10)), order.Status}, true
	}
	switch ev.Advisory.Action {
	case pghub.ActionSubscribe:
		return &ready{ev.Advisory.Topic}, true
	case pghub.ActionReconnect:
		return &gap{"the connection was lost"}, true
	case pghub.ActionLag:
		return &gap{"you read too slowly"}, true
	}
	return nil, false // the end of the stream says the rest
}

// orderEvent is the union OrderEvent.
type orderEvent struct{ element any }

func (e *orderEvent) ToReady() (*ready, bool)               { return as[*ready](e) }
func (e *orderEvent) ToOrderChanged() (*orderChanged, bool) { return as[*orderChanged](e) }
func (e *orderEvent) ToGap() (*gap, bool)                   { return as[*gap](e) }

func as[T any](e *orderEvent) (v T, is bool) {
	v, is = e.element.(T)
	return v, is
}

type ready struct{ topic string }

func (r *ready) Topic() string { return r.topic }

type orderChanged struct {
	id     graphql.ID
	status string
}

func (o *orderChanged) ID() graphql.ID { return o.id }
func (o *orderChanged) Status() string { return o.status }

type gap struct{ reason string }

func (g *gap) Reason() string { return g.reason }
