package pghub

import (
	"errors"
	"fmt"
)

// The errors of this package, to be used with [errors.Is]. What is returned wraps one of them with what was being done,
// on what, and the limit that was met. None of them ever shows a password.
var (
	// ErrTopic: a topic is 1 to 63 bytes of UTF-8 without NUL. Nothing was sent.
	ErrTopic = errors.New("invalid topic")
	// ErrPayloadTooLarge: PostgreSQL takes payloads of at most 7,999 bytes. Nothing was sent.
	ErrPayloadTooLarge = errors.New("payload too large")
	// ErrValue: the value, the key or the payload cannot be put on the wire: no JSON, NUL, invalid UTF-8, or keys that
	// the codec has no place for. Nothing was sent.
	ErrValue = errors.New("invalid value")

	// ErrNotStarted: the hub has not been started.
	ErrNotStarted = errors.New("hub not started")
	// ErrStarted: Start or Run was called a second time.
	ErrStarted = errors.New("hub already started")
	// ErrStopped: the hub is stopping or has been stopped. It does not start again; make a new one.
	ErrStopped = errors.New("hub stopped")
	// ErrClosed: the consumer is closed, or draining.
	ErrClosed = errors.New("consumer closed")
	// ErrNoPool: the hub was made without a Pool and can only listen.
	ErrNoPool = errors.New("no pool to publish with")

	// ErrNotConnected: no connection to the server could be had. Nothing was sent; trying again is safe.
	ErrNotConnected = errors.New("not connected")
	// ErrUnknownOutcome: the connection died, or the context ended, while the statement was under way. The event may
	// or may not be delivered. It is not sent again by the hub; do so only if receiving it twice does no harm.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrNotHeard: an event that Check has published did not come back. Pool and ListenConfig point at different databases,
	// or something between listener and server swallows notifications.
	ErrNotHeard = errors.New("a notification did not come back")
	// ErrPooler: something between hub and server accepts LISTEN and delivers nothing, as PgBouncer in transaction
	// mode does. Set Config.ListenConfig to reach the server itself, or a session-mode pool.
	ErrPooler = errors.New("connection pooler delivers no notifications")
	// ErrStandby: the server is a hot standby, on which LISTEN is not possible. Name all hosts in the DSN together
	// with target_session_attrs=read-write and the primary is found by itself.
	ErrStandby = errors.New("server is a hot standby")

	// ErrSlowConsumer: events of a consumer were dropped, or the consumer was closed, because its queue was full.
	ErrSlowConsumer = errors.New("slow consumer")
	// ErrMuted: the error of a [Gap] that who publishes has announced, as pghub.unmute of package sql does: its events were held back.
	ErrMuted = errors.New("events were held back by who publishes them")
	// ErrPanic: a handler, Resync, a codec, or a hook of pgx or its pool panicked, or ended its goroutine by
	// [runtime.Goexit]. An error that was thrown is wrapped too. A consumer goes on with its next event.
	ErrPanic = errors.New("panic")
	// ErrProbe: the server did not answer in time, and the listener connection was given up.
	ErrProbe = errors.New("no answer from the server")
)

// thrown is the error for what code of the user's threw: ErrPanic, and the value itself where that is an error. A nil value
// means that the code has ended its goroutine, by runtime.Goexit.
func thrown(what string, value any) error {
	switch v := value.(type) {
	case nil:
		return fmt.Errorf("%w: %s: runtime.Goexit was called", ErrPanic, what)
	case error:
		return fmt.Errorf("%w: %s: %w", ErrPanic, what, v)
	}
	return fmt.Errorf("%w: %s: %v", ErrPanic, what, value)
}

// DecodeError says that a payload is not what its codec, or the type it was to be decoded into, expects. It reaches
// Config.OnError for payloads that a codec refuses, and the caller of [Event.Decode] for values.
type DecodeError struct {
	Topic   string
	Payload []byte // as it came
	Err     error
}

func (e *DecodeError) Error() string {
	const shown = 64
	payload, more := e.Payload, ""
	if len(payload) > shown {
		payload, more = payload[:shown], "…"
	}
	return fmt.Sprintf("pghub: undecodable payload on topic %q: %v: %q%s", e.Topic, e.Err, payload, more)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// ListenError says that the server refused to LISTEN on a channel. Subscribe returns it; where it happens after a
// reconnection it reaches Config.OnError, and the channel is tried again for as long as somebody is subscribed to it.
type ListenError struct {
	Topic string
	Err   error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("pghub: LISTEN on topic %q refused: %v", e.Topic, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }
