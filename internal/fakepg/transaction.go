package fakepg

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// transaction gathers what statements want to change: nothing of it shows before it is committed.
type transaction struct {
	block         bool // begun by BEGIN; else it ends with the query, or at the Sync
	failed        bool // of a block: everything is refused until it ends
	changes       []listening
	notifications []notification
	savepoints    []savepoint
}

// listening is a LISTEN or an UNLISTEN.
type listening struct {
	on      bool
	channel string // "" with !on: all of them
}

type notification struct{ channel, payload string }

// savepoint is how much of a transaction had been gathered when it was made.
type savepoint struct {
	name                   string
	changes, notifications int
}

// txLocked returns the transaction that a statement belongs to.
func (ss *session) txLocked() *transaction {
	if ss.tx == nil {
		ss.tx = &transaction{}
	}
	return ss.tx
}

// commitLocked puts into effect what the transaction has gathered. Of equal notifications the first is sent alone.
func (ss *session) commitLocked() {
	tx := ss.tx
	ss.tx = nil
	for _, c := range tx.changes {
		switch {
		case c.on:
			ss.channels[c.channel] = true
		case c.channel == "":
			clear(ss.channels)
		default:
			delete(ss.channels, c.channel)
		}
	}
	sent := make(map[notification]bool, len(tx.notifications))
	for _, n := range tx.notifications {
		if sent[n] {
			continue
		}
		sent[n] = true
		ss.server.published = append(ss.server.published, Notification{ss.pid, n.channel, n.payload})
		ss.server.notifyLocked(ss.pid, n.channel, n.payload)
	}
}

// abortLocked ends the transaction after an error. A block stays, failed, until it is ended by its client.
func (ss *session) abortLocked() {
	if ss.tx != nil && ss.tx.block {
		ss.tx.failed = true
		return
	}
	ss.tx = nil
}

// readyLocked ends the answer to a query: a transaction that no block holds open is committed. Notifications that came
// while the session was busy, or inside a block, are sent now.
func (ss *session) readyLocked() {
	if ss.state != live {
		ss.tx = nil // of a connection that is gone nothing is committed
		return
	}
	if ss.tx != nil && !ss.tx.block {
		ss.commitLocked()
	}
	status := byte('I')
	switch {
	case ss.tx == nil:
		ss.busy = false
		ss.out = append(ss.out, ss.deferred...)
		ss.deferred = nil
	case ss.tx.failed:
		status = 'E'
	default:
		status = 'T'
	}
	ss.answerLocked(&pgproto3.ReadyForQuery{TxStatus: status})
}

func (tx *transaction) save(name string) {
	tx.savepoints = append(tx.savepoints, savepoint{name, len(tx.changes), len(tx.notifications)})
}

// release forgets a savepoint and those made after it. It reports whether there is one.
func (tx *transaction) release(name string) bool {
	i := tx.find(name)
	if i < 0 {
		return false
	}
	tx.savepoints = tx.savepoints[:i]
	return true
}

// rollbackTo undoes what came after a savepoint, which stays. It reports whether there is one.
func (tx *transaction) rollbackTo(name string) bool {
	i := tx.find(name)
	if i < 0 {
		return false
	}
	sp := tx.savepoints[i]
	tx.savepoints = tx.savepoints[:i+1]
	tx.changes = tx.changes[:sp.changes]
	tx.notifications = tx.notifications[:sp.notifications]
	tx.failed = false
	return true
}

// find returns the place of the latest savepoint of that name, or -1.
func (tx *transaction) find(name string) int {
	for i, sp := range slices.Backward(tx.savepoints) {
		if sp.name == name {
			return i
		}
	}
	return -1
}
