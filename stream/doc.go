// Package stream is a log of events in PostgreSQL: events that are kept, with durable consumers, and without a NOTIFY in the
// transactions that write them.
//
// A NOTIFY makes the commits of a whole cluster queue, and what nobody listens to is gone. The stream is for writers who
// cannot pay the one, and readers who cannot afford the other. [Stream.Publish], [Stream.PublishTx] and pghub.publish in
// SQL write an event into a table, in a transaction. A moment later it can be read: by [Stream.Read] and [Stream.Follow],
// by named consumers that go on where they were ([Stream.Durable], [Stream.DurableTx]), and by ordinary consumers of the
// hub, for topics in [Config].Live.
//
//	hub, err := pghub.New(pghub.Config{Pool: pool})
//	s, err := stream.Open(ctx, hub, stream.Config{})
//	d, err := s.Durable(ctx, "billing", func(ctx context.Context, ev *pghub.Event) error {
//		return bill(ctx, ev)
//	}, &stream.DurableConfig{Topics: []string{"orders"}})
//	err = s.Publish(ctx, "orders", []int64{7}, order)
//
// # What is promised
//
// An event is there if its transaction commits, and not if it does not. Transactions come whole, in an order that does not
// contradict what they saw of each other, and in the same order for everybody and each time. A transaction that
// stays open delays its own events alone. Durable gives every event to its handler at least once; DurableTx, whose handler
// works in the transaction that stores the position, exactly once in effect. Whoever was away for longer than events
// are kept is told: Resync.
//
// It needs schema pghub, of package sql, PostgreSQL 13 or later, and READ COMMITTED, which it asks for itself.
package stream
