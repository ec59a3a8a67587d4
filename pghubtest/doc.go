// Package pghubtest lets you test handlers and publishers without PostgreSQL. A [Server] is a PostgreSQL in memory that
// knows as much as a hub needs; the hub, the consumers, pgx and its pool in front of it are the real ones.
//
//	func TestPrices(t *testing.T) {
//		srv := pghubtest.New(t) // everything below ends with the test
//		prices := NewPrices(srv.Hub())
//
//		srv.Publish("prices", []int64{7}, 99) // from "another process"
//		prices.Await(7, 99)
//
//		srv.Disconnect() // the handler gets disconnect, reconnect and Resync
//		prices.AwaitReload()
//	}
//
// Publishing works too: [Server.Published] shows what was committed through [Server.Pool], by Notify, NotifyTx, or SQL.
// Notifications are sent at COMMIT, not at all after ROLLBACK, and of equal ones in a transaction only one.
//
// # Time
//
// A test takes about a millisecond. Where time matters (a probe, a backoff, a time limit) run it inside a bubble of
// [testing/synctest]: call [New] inside it, and a silent server is found out in no time. All that the server does waits
// for channels, conditions and pipes of the bubble.
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := pghubtest.New(t)
//		…
//		srv.Stall()
//		time.Sleep(time.Minute) // takes no time
//		…
//	})
//
// # What it understands
//
// LISTEN, UNLISTEN, NOTIFY; SELECT of pg_notify (also over unnest, as the hub sends it), pg_backend_pid,
// pg_is_in_recovery, set_config and 1; BEGIN, COMMIT, ROLLBACK, SAVEPOINT; SET, RESET, DISCARD and DEALLOCATE without
// effect on anything else; in the simple and the extended protocol, in all of pgx's query modes, pipelines and batches.
// The limits are those of PostgreSQL. Every other statement is refused with SQLSTATE 0A000: give it an answer with
// [Server.Handle], or test against a real server. There are no tables, no roles and no encryption, and a
// request to cancel a statement has no effect.
package pghubtest
