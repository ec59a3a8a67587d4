package pghub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config makes a [Hub]. The zero value of every field but Pool is useful; Pool or ListenConfig must be set.
type Config struct {
	// Pool publishes. Its ConnConfig, with BeforeConnect applied, also opens the listener connection, which is the
	// hub's own and is never taken from the pool. The hub does not close it.
	Pool *pgxpool.Pool

	// ListenConfig, made by [pgx.ParseConfig], opens the listener connection instead, for instance past a transaction
	// pooler. Pool may then be nil: the hub listens, and Notify answers ErrNoPool.
	ListenConfig *pgx.ConnConfig

	// Name of the hub, for logs and as application_name of the listener connection: "pghub", or "pghub:" and the name.
	Name string

	// Logger gets a line for every change of state and for trouble, at most one a second for the same cause, from a
	// goroutine of its own. nil: silent.
	Logger *slog.Logger

	// Codec of events. nil: KeyValueCodec{}.
	Codec Codec

	// ReconnectMin and ReconnectMax bound the backoff between attempts to connect: the n-th attempt follows after a
	// random time between 0 and ReconnectMin·2ⁿ, but at most ReconnectMax. The count starts anew once a connection has
	// been listening for ReconnectMax. 0: 100 ms and 30 s.
	ReconnectMin, ReconnectMax time.Duration

	// ProbeInterval is how long the listener connection may be silent before the server is asked for a sign of life, and
	// whether it is a standby now (ErrStandby), and ProbeTimeout how long the answer to that, or to a LISTEN, may take before the connection is given up.
	// 0: 10 s and 5 s. A negative ProbeInterval turns both off: a half-open connection may then go unnoticed for ever.
	ProbeInterval, ProbeTimeout time.Duration

	// PollOnly has the hub not listen at all: for a place where LISTEN is impossible, such as a pooler in transaction mode that
	// nothing leads past, or a standby. No connection is opened, subscriptions are in effect at once, and nothing comes but
	// the calls of Resync that ResyncFirst and ResyncEvery ask for. Notify works as ever.
	PollOnly bool

	// ResyncLimit is how many calls of Resync may run at a time, in all consumers of the hub together; others wait. After a
	// lost connection all of them are due at once. 0: no limit.
	ResyncLimit int

	// ResyncClusterLimit is how many processes may call Resync at a time, of all those on the pool's database whose hubs have the
	// same Name and the same limit; others wait. After a failover all of them are due at once, and would load at once what the server has
	// just lost from its memory. A process takes one advisory lock for all of its consumers, and one connection of the pool while
	// it waits for that and has it, so the pool must have room for another one. Without a way to get a lock, which OnError is told,
	// Resync is called all the same. 0: no limit.
	ResyncClusterLimit int

	// QueueSize is how many events may wait for a consumer whose ConsumerConfig does not say. 0: 16384. Negative:
	// unbounded.
	QueueSize int

	// PublishTimeout is how long a statement of Notify may take, for all who share it; the pool has half as long to come up
	// with a connection. A call may wait longer, for statements before its own. After half a PublishTimeout without a sign of
	// the server the connections of the pool are taken to be dead, and closed if some are idle (pgxpool.Pool.Reset). 0: 5 s.
	PublishTimeout time.Duration

	// StopTimeout bounds the graceful stop at the end of Run, and how long any stop waits for OnError. 0: 10 s, or twice
	// PublishTimeout if that is longer: a stop waits for the statement under way.
	StopTimeout time.Duration

	// BaseContext is what the contexts of handlers and of Resync descend from: values, for tracing, and its end. Let it end
	// after the hub only: until then handlers go on with a context that has ended, and a Resync that is due is given up,
	// which OnError is told. nil: context.Background().
	BaseContext context.Context

	// OnError is told of trouble that no caller waits for: a payload that cannot be decoded (*[DecodeError]), a handler
	// that panicked (ErrPanic), a connection lost or not to be had, a topic that cannot be listened to any more
	// (*[ListenError]), a consumer that overflowed (ErrSlowConsumer). It runs on a goroutine of its own and never
	// concurrently with itself; while it runs up to 1,024 errors wait, and how many found no room is logged.
	OnError func(error)
}

// ConsumerConfig makes a [Consumer]; nil means its zero value.
type ConsumerConfig struct {
	// Name of the consumer, in the log, in errors and in Stats.
	Name string

	// Topics to subscribe to from the start.
	Topics []string

	// Middleware goes around the handler, the first outermost. A [BatchHandler] is called within one call of it, which has the
	// first event of the batch; Resync is not. They are called once, with the handler, when the consumer is made.
	Middleware []Middleware

	// QueueSize is how many events may wait for the handler. 0: the hub's. Negative: unbounded. Supervisory events are
	// not counted and never dropped; neither are the events in the handler's hands: the one being handled, and those
	// fetched together with it, at most a 64th of QueueSize and never more than 256. As the queue becomes half full, but with
	// more than 512 events, and at each further eighth, the hub stops reading for up to 1 ms: a handler that keeps up, and
	// only lacked a processor, loses nothing then.
	QueueSize int

	// Overflow says what gives way when the queue is full.
	Overflow Overflow

	// Resync is called after a gap (a reconnect, a lag, a subscribe that comes late, or an event by which a publisher announces
	// one: see ErrMuted), on the consumer's goroutine, behind the advisory or that event and before the first event that follows: fetch again whatever is kept up to date by events. Its context ends when the
	// consumer closes. An error is reported to OnError and Resync called again, with backoff between ReconnectMin and
	// ReconnectMax; meanwhile events queue up, and what overflows adds to the gap of the next call.
	Resync func(ctx context.Context, gap Gap) error

	// ResyncFirst has Resync called once more: as soon as all topics are in effect for the first time, before the first event
	// that is committed after that. Gap is zero then. A cache loads there, and only there.
	ResyncFirst bool

	// ResyncEvery has Resync called so long after it last succeeded, with or without a gap, and during an outage too: a net under
	// what events bring, and with Config.PollOnly all there is. Gap is zero then. 0: never.
	ResyncEvery time.Duration

	// ResyncJitter has Resync wait a random time up to this at a gap, and lengthens each period of ResyncEvery by such a time: after
	// a failover thousands of processes find a gap in the same moment. Events queue up meanwhile. The first call, of
	// ResyncFirst, does not wait. 0: none does.
	ResyncJitter time.Duration

	// Codec of this consumer's events. nil: the hub's.
	Codec Codec
}

// Overflow is what happens to a consumer whose queue is full.
type Overflow int8

// What gives way when a consumer's queue is full. Whatever is dropped is counted, and announced in its place by a lag
// advisory.
const (
	DropOldest    Overflow = iota // the event that has waited longest
	DropNewest                    // the event that arrives
	CloseConsumer                 // the consumer: it is closed with ErrSlowConsumer
)

// Handler is called with a consumer's events, one at a time and in order. ctx ends when the consumer closes or the hub
// is cut off. ev is shared with other consumers: read only. A handler may block; it delays nobody else. It may call
// every method of hub and consumer; Stop and Drain, when given ctx, do not wait for the handler that calls them.
type Handler func(ctx context.Context, ev *Event)

const (
	defaultQueueSize      = 16384
	defaultReconnectMin   = 100 * time.Millisecond
	defaultReconnectMax   = 30 * time.Second
	defaultProbeInterval  = 10 * time.Second
	defaultProbeTimeout   = 5 * time.Second
	defaultPublishTimeout = 5 * time.Second
	defaultStopTimeout    = 10 * time.Second
	applicationName       = "pghub"
	maxApplicationName    = 63
	unboundedQueue        = int(^uint(0) >> 1)
	connectTimeout        = 10 * time.Second       // to one address, unless the connection configuration says otherwise
	attemptTimeout        = 5 * time.Minute        // to connect, however many addresses there are
	connectGrace          = 100 * time.Millisecond // to end when told to
	errorsWaitingForUser  = 1024
	logSilence            = time.Second // at least this long between two lines on the same cause
	terminateWriteTimeout = time.Second
)

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Pool == nil && cfg.ListenConfig == nil && !cfg.PollOnly {
		return cfg, errors.New("pghub: Config needs a Pool or a ListenConfig")
	}
	if !utf8.ValidString(cfg.Name) || strings.IndexByte(cfg.Name, 0) >= 0 {
		return cfg, fmt.Errorf("pghub: Config.Name %q is not UTF-8 without NUL", cfg.Name)
	}
	cfg.ReconnectMin = orDefault(cfg.ReconnectMin, min(defaultReconnectMin, orDefault(cfg.ReconnectMax, defaultReconnectMax)))
	cfg.ReconnectMax = orDefault(cfg.ReconnectMax, max(defaultReconnectMax, cfg.ReconnectMin))
	cfg.ProbeInterval = orDefault(cfg.ProbeInterval, defaultProbeInterval)
	cfg.ProbeTimeout = orDefault(cfg.ProbeTimeout, defaultProbeTimeout)
	cfg.QueueSize = orDefault(cfg.QueueSize, defaultQueueSize)
	cfg.PublishTimeout = orDefault(cfg.PublishTimeout, defaultPublishTimeout)
	cfg.StopTimeout = orDefault(cfg.StopTimeout, max(defaultStopTimeout, 2*cfg.PublishTimeout))
	if cfg.ReconnectMin < 0 || cfg.ReconnectMax < cfg.ReconnectMin {
		return cfg, fmt.Errorf("pghub: Config.ReconnectMin %v and ReconnectMax %v are no range", cfg.ReconnectMin, cfg.ReconnectMax)
	}
	if cfg.ProbeTimeout < 0 || cfg.PublishTimeout < 0 || cfg.StopTimeout < 0 {
		return cfg, fmt.Errorf("pghub: Config.ProbeTimeout %v, PublishTimeout %v and StopTimeout %v must not be negative",
			cfg.ProbeTimeout, cfg.PublishTimeout, cfg.StopTimeout)
	}
	if cfg.ResyncLimit < 0 || cfg.ResyncClusterLimit < 0 {
		return cfg, fmt.Errorf("pghub: Config.ResyncLimit %d and ResyncClusterLimit %d must not be negative", cfg.ResyncLimit, cfg.ResyncClusterLimit)
	}
	if cfg.ResyncClusterLimit > 0 && (cfg.Pool == nil || cfg.Pool.Config().MaxConns < 2) {
		return cfg, errors.New("pghub: Config.ResyncClusterLimit needs a Pool of two connections or more")
	}
	if cfg.QueueSize < 0 {
		cfg.QueueSize = unboundedQueue
	}
	if cfg.Codec == nil {
		cfg.Codec = KeyValueCodec{}
	}
	if cfg.BaseContext == nil {
		cfg.BaseContext = context.Background()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// withDefaults fills in what the hub's configuration decides.
func (cfg ConsumerConfig) withDefaults(hub *Config) (ConsumerConfig, error) {
	cfg.QueueSize = orDefault(cfg.QueueSize, hub.QueueSize)
	if cfg.QueueSize < 0 {
		cfg.QueueSize = unboundedQueue
	}
	if cfg.Codec == nil {
		cfg.Codec = hub.Codec
	}
	if cfg.Overflow < DropOldest || cfg.Overflow > CloseConsumer {
		return cfg, fmt.Errorf("pghub: ConsumerConfig.Overflow %d is not known", cfg.Overflow)
	}
	if cfg.ResyncFirst && cfg.Resync == nil {
		return cfg, errors.New("pghub: ConsumerConfig.ResyncFirst needs a Resync")
	}
	if (cfg.ResyncEvery != 0 || cfg.ResyncJitter != 0) && cfg.Resync == nil {
		return cfg, errors.New("pghub: ConsumerConfig.ResyncEvery and ResyncJitter need a Resync")
	}
	if cfg.ResyncEvery < 0 || cfg.ResyncJitter < 0 {
		return cfg, fmt.Errorf("pghub: ConsumerConfig.ResyncEvery %v and ResyncJitter %v must not be negative", cfg.ResyncEvery, cfg.ResyncJitter)
	}
	return cfg, checkTopics(cfg.Topics)
}

func checkTopics(topics []string) error {
	for _, t := range topics {
		if err := checkTopic(t); err != nil {
			return err
		}
	}
	return nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
