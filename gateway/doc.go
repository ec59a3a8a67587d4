// Package gateway puts the events of a [pghub.Hub] on WebSockets and Server-Sent Events, for browsers and for programs
// that do not speak PostgreSQL.
//
//	gw, err := gateway.New(hub, gateway.Config{Topics: []string{"chat_*"}})
//	mux.Handle("/pg/", http.StripPrefix("/pg", gw))
//
// What it promises:
//
//   - One listener connection to PostgreSQL, whatever the number of clients and topics: the hub's. A topic is listened
//     to from its first client to its last.
//   - What a client is told is in effect, is: a WebSocket on /listen opens, and a subscription is acknowledged, after
//     the server has acknowledged LISTEN.
//   - No client is waited for. Each has an outbox of Config.MaxPending bytes, and for a burst a share of what there is for
//     all; where that is full the oldest events give way to a lag advisory with their exact number, and a client that
//     stays behind is closed with [CodeSlow].
//   - No silent gap: clients stay connected while the database is away and get disconnect and reconnect advisories.
//   - What a client has missed it gets again, once and in its place, of topics of a stream, and for a while of others, where the Config
//     says so.
//   - Nothing is open by default: no topic may be listened to, nothing published, no foreign origin connect, unless the
//     Config says so.
//
// Routes, messages, codes and figures are in README.md.
package gateway
