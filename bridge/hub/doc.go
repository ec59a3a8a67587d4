// Package hub is a sink that brings messages to another PostgreSQL: as notifications for its hubs, or into its stream.
//
//	sink, err := hub.New(hub.Config{Pool: target, Name: "shop", Stream: true})
//
// A message is an event with the message's target as its topic, or its own topic if it has no target, the event's key, and the body
// as its value, which must be JSON: routes leave Format at its zero value. Raw sends the body as it is.
//
// # Nothing comes twice
//
// The position of the last message is kept in the target database, in table pghub_bridge, by the transaction that publishes. A
// message at or before it is there already. So what a stream brings is in the target once, whatever was killed or lost in between,
// and in order. The route has one lane. The row is found by Name and the name of the route: where several sources bring events to
// one target, each has a Name of its own.
//
// It holds neither for a hub as source, which has no positions, nor for messages that were parked and are tried again, or replayed
// by pghub.replay: of these, one whose COMMIT had no answer may come twice. Who seeks back in the source's stream, to have all once
// more, deletes the row first; so does who has a source of the WAL begin anew on another server, where its positions may be smaller.
//
// A target that loses what it has committed, by a failover without synchronous replication or a restore from a backup, lacks these
// events, for the source has gone past them: seek back in the source's stream.
//
// # Limits
//
// A notification has at most 7,999 bytes, key included; what is larger is refused for good. A stream takes what PostgreSQL takes,
// and headers. The role of the pool needs the right to publish (SELECT pghub.allow('app', 'publish') for a stream), and to SELECT,
// INSERT and UPDATE the table, which [Setup] makes; Send makes it if it is not there and the role may. Events that go in a circle
// between two databases are up to you: bring different topics each way.
package hub
