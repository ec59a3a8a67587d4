// Package source is the seam between where events come from and the hub that fans them out.
//
// A [Source] opens one [Session] after another. A session brings bursts of messages to the hub, which it knows as a
// [Sink], and keeps in step with the topics that the hub wants. Neither side knows what the other one is made of: the
// session on a listener connection is one, and others need nothing but these types.
package source

import (
	"context"
	"time"
)

// Message is an event as it arrives. Topic and Payload alias the session's buffer: they are valid until Sink.Burst returns.
type Message struct {
	Topic   []byte
	Payload []byte
	PID     uint32  // the server process that sent it, if there is one
	Stored  *Stored // where it comes from a stream
}

// Change is something that the sink wants of the session: that a topic is listened to, or is left.
type Change struct {
	Topic  string
	Listen bool
	// Alone: the change was refused together with others, and has to be asked for by itself.
	Alone bool
}

// Sink is the hub as a session sees it. Its methods wait for no handler and do no I/O.
type Sink interface {
	// Attach begins the session. A value is sent to wake, without waiting, whenever Changes has something new.
	Attach(wake chan<- struct{})

	// Changes returns what is wanted now and was not asked for before. The session calls it only when all changes that it
	// got before are acknowledged. unannounced: there is nothing to change, but nobody has been told yet that the session
	// listens; an empty Acknowledge tells them.
	Changes() (changes []Change, unannounced bool)

	// Acknowledge says that changes are in effect from here on, or, if refused is not nil, that none of them is. Messages
	// that came before have been passed to Burst by then. fatal: the hub gives up, and the session has to end with it.
	Acknowledge(changes []Change, refused error) (fatal error)

	// Retry asks again for what was refused.
	Retry()

	// Burst takes messages in their order. more: another call follows at once. It may pause for a millisecond, when a
	// queue fills up. One goroutine calls it at a time, the one that calls Acknowledge.
	Burst(messages []Message, more bool)
}

// Session is the life of one connection.
type Session interface {
	// Run feeds the sink until the connection is lost, or ctx ends, and says why. It is called once, and after it no
	// goroutine of the session is left.
	Run(ctx context.Context, sink Sink) error

	// Barrier returns when everything that was committed before the call has been passed to the sink, when the session
	// ends, or when ctx does.
	Barrier(ctx context.Context)

	// LastAlive is when something was last heard from the other side.
	LastAlive() time.Time

	// Peer is who the other side is.
	Peer() Peer
}

// Peer is the other side of a session, for logs and figures.
type Peer struct {
	Server  string // address
	PID     uint32 // of the server process
	Version string
}

// Source opens sessions, one at a time.
type Source interface {
	Open(ctx context.Context) (Session, error)
}
