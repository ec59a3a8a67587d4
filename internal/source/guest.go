package source

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Stored is what a message has that comes from a stream.
type Stored struct {
	Tick, Txn, ID int64
	At            time.Time
	Headers       map[string]string
}

// Guest lives with a hub beside its sessions, and ends before it. Where it brings messages of some topics itself, nothing
// of these is missing after a reconnection of the hub.
type Guest interface {
	// Topics are those that it brings messages of.
	Topics() []string

	// Stop ends it, and returns when nothing of it runs any more, or soon after ctx has ended.
	Stop(ctx context.Context)
}

// Host is a hub as a guest sees it. All of it may be used from several goroutines at once.
type Host interface {
	// Listening is closed when the hub listens for the first time. Messages that are fed before that reach nobody.
	Listening() <-chan struct{}

	// Feed brings messages to the hub's consumers, whether the hub's own session is there or not. One goroutine calls it at a
	// time. It may pause for a millisecond when a queue fills up.
	Feed(messages []Message)

	// Missed tells the consumers of topics that messages may be missing here.
	Missed(topics []string, why error)

	// Pool is the hub's pool, never nil.
	Pool() *pgxpool.Pool

	// ConnConfig is how the hub connects its listener.
	ConnConfig(ctx context.Context) (*pgx.ConnConfig, error)

	// Backoff is the wait after so many failures in a row.
	Backoff(failures int) time.Duration

	// PublishTimeout is how long a statement that publishes may take.
	PublishTimeout() time.Duration

	// BaseContext is what handlers' contexts descend from.
	BaseContext() context.Context

	// Name is the hub's.
	Name() string

	// Trouble logs an error and passes it to OnError. Log writes a line. Neither waits.
	Trouble(cause string, err error, attrs ...any)
	Log(level slog.Level, cause, msg string, attrs ...any)
}

// Caller is whose handler has a context.
type Caller struct {
	Host Host // of the guest
	Who  any  // what the guest calls a consumer
}

type caller struct{}

// WithCaller is the context of a handler of a guest.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, caller{}, c)
}

// CallerOf says whose handler has this context; zero if no guest's.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(caller{}).(Caller)
	return c
}
