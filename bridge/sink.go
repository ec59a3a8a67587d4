package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sink brings messages to a broker. Anybody may write one. This is what it may rely on, and what it has to keep to.
//
// # Calls
//
// A route with one lane, which is the usual case, calls Send with one batch at a time, in order: the next call comes when this one
// has returned. A route with several lanes, and several routes with the same sink, call it from several goroutines at once; a sink
// must be ready for that. A batch has at least one message and at most Route.Batch, or MaxBatch of a [Limited] sink. The messages
// are the sink's to read until Send returns, and not to change.
//
// # Windows
//
// Send may have as many messages under way as the broker allows: it hands over the whole batch, and then waits for the
// confirmations. That is the window of unconfirmed messages: none is under way when Send has returned. A sink that needs a smaller
// window takes it from its own configuration.
//
// # What the error means
//
//   - nil: the broker has taken all of the batch, in the strongest sense that it knows: a confirm, an acknowledgement, a commit. Bytes
//     written to a socket are not that. The source's position may go past them at once.
//   - [Errors]: one entry a message, nil for those that were taken. An entry made by [Refuse] is for good: the message is parked, or reported, and
//     never sent again. Any other entry is a failure: this message, and not those that were taken, is sent again.
//   - any other error: nothing is known about any message of the batch. All are sent again. Made by Refuse, it refuses all of them.
//
// A failure is tried again for as long as the bridge runs, or up to Route.Attempts, after a backoff, or after the time that
// [RetryAfter] says. The first message that failed is sent alone then, so that one which cannot be sent does not hold up a large
// batch again and again.
//
// # Order
//
// A sink that keeps order does not let the broker take a message behind one that failed: it stops there and reports [ErrNotSent]
// for the rest. (A sink that takes fewer at once than a batch has may do so too, without a failure: the rest is then the next
// batch.) Where the broker is handed a window of messages and refuses one in the middle for a passing reason, what was behind it
// has been taken, and the order is broken for that message; a sink whose broker does so says it in its package comment.
//
// # Sent twice
//
// A message may come again: after a failure, and after a crash of the bridge between the broker's word and the storing of the
// position. It then has the same ID, and the same Position. A sink should hand ID to a broker that can tell duplicates by it. Where
// the Position of messages rises, "equal to, or before, the last one that was taken" means that it is there already; but not if
// Message.Again is set.
//
// # Contexts
//
// The context of Send ends after Route.Timeout, and when the bridge is cut off. Send then returns soon, with an error. What had
// been handed over may be taken or not: that is a failure like any other. A sink connects in Send when it has no connection, and
// does not retry by itself beyond one new connection: the route does, and it is the route that counts, logs and waits.
//
// # Close
//
// Close is called once, by the bridge, when no Send runs any more. It gives up connections and waits for the goroutines of the
// sink, for no longer than its context. A Send after it returns [ErrClosed].
type Sink interface {
	Send(ctx context.Context, batch []*Message) error
	Close(ctx context.Context) error
}

// Checker is a Sink that can say whether it would work: it connects, and looks whether what it is to send to exists and may be sent
// to. It sends nothing. targets are those of its routes that do not depend on an event.
type Checker interface {
	Check(ctx context.Context, targets []string) error
}

// GapTaker is a Sink that may want gaps as messages of their own: Message.Gap is set then. Others never get one.
type GapTaker interface {
	TakesGaps() bool
}

// Limited is a Sink that wants smaller batches than Route.Batch: one whose broker takes no more at once, or that sends messages one
// by one and would have the position wait for a whole batch of them.
type Limited interface {
	MaxBatch() int // 0: as the route says
}

// Orderly is a Sink that needs all messages of a route in order, in one lane: one that knows by the position of the last message
// what is there already. A route with several lanes is refused for it when the bridge is made.
type Orderly interface {
	NeedsOrder() bool
}

// Errors is the error of a Send that has something to say about single messages: as many entries as the batch has messages, in its order,
// nil for those that were taken. Errors without an entry that is not nil counts as success.
type Errors []error

// Error names the first one, and says how many there are.
func (e Errors) Error() string {
	n, text := 0, "no error"
	for _, err := range e {
		if err != nil {
			if n++; n == 1 {
				text = err.Error()
			}
		}
	}
	if n > 1 {
		return fmt.Sprintf("%s (and %d more of %d messages)", text, n-1, len(e))
	}
	return text
}

// Unwrap gives the errors of the messages.
func (e Errors) Unwrap() []error {
	var all []error
	for _, err := range e {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// OrNil is the Errors as an error, or nil if all were taken: what a Send returns that has filled in what became of each message.
func (e Errors) OrNil() error {
	for _, err := range e {
		if err != nil {
			return e
		}
	}
	return nil
}

// Errors to use with errors.Is.
var (
	// ErrNotSent is the entry of a message in Errors that was not tried, because one before it failed, or because the sink takes
	// fewer at once.
	ErrNotSent = errors.New("not sent yet")
	// ErrClosed is the error of a Send after Close.
	ErrClosed = errors.New("the sink is closed")
)

// refusal is an error that will not go away.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Refuse says of an error that it is for good: the message is too large, cannot be routed, or is not allowed, and sending it again would
// end in the same way. It is not for what may be mended from outside without a change of the message, such as wrong credentials.
func Refuse(err error) error {
	if err == nil {
		err = errors.New("refused")
	}
	return &refusal{err}
}

// IsRefused reports whether an error, or one that it wraps, was made by Refuse.
func IsRefused(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// retryAfter is an error with the time that its message is to wait.
type retryAfter struct {
	after time.Duration
	err   error
}

func (r *retryAfter) Error() string { return r.err.Error() }
func (r *retryAfter) Unwrap() error { return r.err }

// RetryAfter is err, for a sink to return when the broker has said how long to wait. The route waits so long, and not for its
// usual backoff, but at most an hour.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("to be tried again")
	}
	return &retryAfter{d, err}
}
