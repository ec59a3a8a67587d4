// Package livecache keeps copies of rows in memory, and forgets each one when an event says that it has changed.
//
// A [Cache] reads through: [Cache.Get] answers from memory, or calls your Load, once for all who ask meanwhile and for many keys
// at a time. Events of a topic, from a trigger of package sql or from Notify, name the keys that have changed.
//
// # What it promises
//
// A call of Get that begins after an event was delivered never returns what was true before that event's commit. The trap is
// a load that is under way when the event comes: its result may be older than the change, and stored behind the event it would
// stay for ever. Such a result is given to those who have asked for it before, and never kept; who asks later causes a new load.
//
// Where events may be missing, the cache knows: after a lost connection and after an overflow everything is dropped, before
// the next event, and read again as it is asked for, or at once by LoadAll. Before the topic is in effect, and when the hub has
// stopped, nothing is kept: Get still answers, by a load each time. An event that Key does not understand drops everything.
//
// While the connection is lost, copies go on being served: nobody tells when they become old. The loss is noticed within
// ProbeInterval and ProbeTimeout of the hub. Set Config.Outage to LoadThrough to have every Get ask the database from then on,
// or a TTL to bound the age.
//
// # What Load has to do
//
// It reads what is committed when it is called: a query of its own on the primary server, in READ COMMITTED. A standby is behind
// by a moment, and what is read from it when an event has come may be older than that event: the cache would keep it. Either read
// from the primary, or have Load call [AwaitStandby] first.
package livecache
