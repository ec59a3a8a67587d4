// Package pghub is a publish/subscribe hub over PostgreSQL LISTEN/NOTIFY, on pgx. A [Hub] keeps one connection that
// listens, and hands what arrives to any number of [Consumer] callbacks; it connects again when the connection is lost,
// and publishes through your pool.
//
// It is not a queue: an event reaches those who listen when it is committed, at most once, and nobody later. What has to
// survive belongs in a table; an event says that it is worth looking there.
//
// # Order and gaps
//
// A consumer sees events in the order in which PostgreSQL committed them, across all of its topics, one at a time and
// never concurrently with itself.
//
// When [Hub.Start] or [Consumer.Subscribe] has returned, the server has acknowledged LISTEN: what is committed after
// that arrives. Wherever events may be missing the stream says so, in the place where they are missing, by a
// supervisory event (its Topic is "", its Advisory is not nil):
//
//   - disconnect, and later reconnect: the connection was lost. What had not arrived by then, and what is committed
//     before reconnect, may be missing. reconnect comes after every LISTEN has been acknowledged again: what is
//     committed after it arrives.
//   - lag: this consumer's own queue was full, and exactly Advisory.Dropped events are missing here.
//   - subscribe with a Gap: the server had refused this topic when the connection came back, and takes it only now.
//     reconnect has named the topic in its Advisory.Err. What was committed on it until here is missing.
//
// One gap is announced by an event: who publishes on a topic was silent, and says so ([ErrMuted]).
// Elsewhere nothing is missing, and nowhere does anything come twice or out of order. [ConsumerConfig].Resync is called
// after each of them, before the first event that follows: the place to read again what events had kept up to date. With
// ResyncFirst it is also called once at the beginning, so that there is one place where a cache loads.
// The other supervisory events are connect, subscribe, and stop or close, after which no event follows; see [Action].
//
// # Back-pressure
//
// There is none towards PostgreSQL, on purpose. A server process whose client does not read keeps the notification
// queue of the whole cluster from being emptied, and once that is full (8 GB) every NOTIFY fails. So the hub reads
// whatever its handlers do, and each consumer has a queue of its own, bounded by QueueSize. When it is full,
// [Overflow] decides: the oldest event goes, the newest goes, or the consumer is closed. What goes is counted, announced
// by lag or by that close, and reported to [Config].OnError.
//
// There is one brake. A burst can be longer than a queue, and then a quick handler that only lacks a processor would lose
// events. So the hub stops reading for up to a millisecond when a queue becomes half full, and again at each further eighth.
// A handler that keeps up loses nothing. A handler that is stuck costs the hub four such pauses, once.
//
// A handler may therefore block, panic, publish, subscribe, or close its own consumer; it delays or breaks no other, not
// even together with ten thousand that are stuck as well. Handlers run on as many goroutines as there are processors, and
// on more where they block. A panic is recovered and reported, and the consumer goes on with its next event.
//
// # Publishing
//
// [Hub.Notify] returns nil once the event is committed. An invalid topic, key or value, or a payload above 7,999 bytes,
// is refused before anything is sent. [ErrNotConnected] means that nothing was sent. [ErrUnknownOutcome] means that the
// connection died, or the context ended, while the statement was under way: the event may be delivered or not, and only
// you know whether sending it twice does harm; the hub does not. Calls from many goroutines share statements, and each
// gets its own answer. [Hub.NotifyTx] publishes inside your transaction: sent if it commits.
//
// Any SQL may publish too, and any client of pg-hub in another language. The payload is the letter e, the keys in
// decimal joined by commas, and, if there is a value, a colon and its JSON:
//
//	NOTIFY topic1, 'e1,2:{"a":1}';
//
// For other payloads there are [JSONCodec] and [RawCodec], for a hub or for a single consumer. Every byte of a valid
// value and every int64 key survives the round trip.
//
// # Coming back, and ending
//
// Any error of the listener connection, a restart of the server, a failover, or a server that has stopped answering
// leads to reconnection, with exponential backoff and full jitter, for as long as the hub is not stopped. An idle
// connection is probed every ProbeInterval, since a half-open one is silent for ever.
//
// [Hub.Stop] delivers what was committed before it, ends every stream with stop, and leaves no goroutine behind. It
// waits no longer than its context, and then cuts off what is left; only a handler that ignores the end of its own
// context keeps its goroutine until it returns. All methods may be called from any goroutine and
// inside handlers, in every state, and say what they do before Start, during an outage and after Stop.
//
// # PostgreSQL
//
// What this rests on is in the manual: [LISTEN], [NOTIFY], [asynchronous notification in libpq], and the
// [message formats] of the protocol. LISTEN needs a session of its own on a primary server: not a connection pooler in
// transaction mode ([ErrPooler]), for which there is [Config].ListenConfig, and not a hot standby ([ErrStandby]). Any
// role that can connect to a database can NOTIFY on any channel in it: take events as hints, and not as commands.
//
// [LISTEN]: https://www.postgresql.org/docs/current/sql-listen.html
// [NOTIFY]: https://www.postgresql.org/docs/current/sql-notify.html
// [asynchronous notification in libpq]: https://www.postgresql.org/docs/current/libpq-notify.html
// [message formats]: https://www.postgresql.org/docs/current/protocol-message-formats.html
package pghub
