// Package bridge brings events of a hub, or of a stream, to other brokers.
//
// A [Route] has a [Source] of events and a [Sink]. A sink says when the broker has taken a message, and nothing is
// acknowledged towards the source before that. Each route has goroutines of its own, so a broker that is away, or full, holds up
// its own route and nothing else.
//
//	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{{
//		Name:   "orders",
//		Source: bridge.FromStream(s, nil),
//		Topics: []string{"orders"},
//		Sink:   sink, // of webhook.New, hub.New, or one of your own
//		Target: "shop.{topic}.{value.state}",
//	}}})
//	err = b.Run(ctx)
//
// # What is promised
//
//   - From a stream: at least once, and in order, across every restart of every part. The position is that of a named consumer. With a sink that knows
//     what it has taken, exactly once: the package of each sink says so.
//   - From a hub: at most once, in order. A gap is counted, reported, and sent on as a message of its own where the sink takes such.
//   - A message that fails is tried again, with backoff, and what is behind it waits: the order is kept. What the broker refuses for good
//     ([Refuse]) is parked with its reason where the source is a stream, and else counted and reported.
//   - Memory is bounded: a route has one batch under way, and its source as much as it says.
//   - Stop lets what was sent be confirmed, and stores the position.
//
// # Sinks
//
// Packages webhook and hub are sinks without further dependencies. [Sink] is a small interface: see there for what one has to keep
// to. Package sinktest tests whether it does.
package bridge
