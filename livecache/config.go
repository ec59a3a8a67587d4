package livecache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pghub/pghub"
)

// Config makes a [Cache]. Topic, Key and Load must be set.
type Config[K comparable, V any] struct {
	// Topic of the events.
	Topic string

	// Key says which keys an event is about: they are forgotten. None is fine. [ErrAll] drops everything, and so does any other
	// error, which OnError is told: an event that is not understood may have been about anything. It is called on the cache's
	// goroutine and has to be quick. [Rows] is one for integer keys.
	Key func(ev *pghub.Event) ([]K, error)

	// Load reads the values of keys, as they are now; see the package comment. What is not in its result does not exist, which
	// is remembered too. Several calls run at once, never with the same key. The context ends after LoadTimeout, and with
	// the cache; it has nothing of the contexts of those who wait. An error goes to all of them, and nothing is kept.
	Load func(ctx context.Context, keys []K) (map[K]V, error)

	// LoadAll, if set, reads everything when the topic is in effect, and again after each gap: for a table that fits into memory. An
	// error is reported to the hub's OnError, and LoadAll called again, with backoff; events wait for that, and Get loads each
	// time. It bounds its own time: while it runs, what Get has loaded since it began is kept, though events wait.
	LoadAll func(ctx context.Context) (map[K]V, error)

	// Max is how many keys are kept; beyond that those go that are not likely to be asked for. 0: 10,000.
	Max int

	// TTL is how long a copy is kept at most. 0: until an event or a gap.
	TTL time.Duration

	// ResyncEvery drops everything so long after the last time, and has LoadAll read it again: a net under a trigger that is gone, and with
	// a hub that is [pghub.Config].PollOnly all there is, but for TTL. ResyncJitter is a random wait on top of it, and at a gap,
	// so that not all processes read at once. It goes on in an outage, which it does not end. 0: never, and none.
	ResyncEvery, ResyncJitter time.Duration

	// Outage is what Get does while the connection of the listener is lost.
	Outage Outage

	// Batch is how many keys a Load is asked for, and Loads how many run at once; other keys wait and go together. 0: 256 and 4.
	Batch, Loads int

	// LoadTimeout is how long a Load may take. 0: 10 s.
	LoadTimeout time.Duration

	// Codec of the events. nil: [pghub.KeyValueCodec]. It is not that of the hub.
	Codec pghub.Codec

	// Name of the consumer, in the log, in errors and in figures. "": "livecache".
	Name string

	// QueueSize of the consumer. 0: the hub's.
	QueueSize int

	// OnError is told of events that Key or Codec do not understand, on the cache's goroutine. nil: nobody.
	OnError func(error)
}

// Outage is what a cache does while it gets no events.
type Outage int

// What Get does while the connection is lost.
const (
	ServeCached Outage = iota // answers from memory, as before: what has changed meanwhile is found out at the reconnection
	LoadThrough               // asks the database each time
)

// ErrAll is what Key returns for an event that may be about every key, such as a TRUNCATE.
var ErrAll = errors.New("livecache: the event is about every key")

const (
	defaultMax         = 10_000
	defaultBatch       = 256
	defaultLoads       = 4
	defaultLoadTimeout = 10 * time.Second
)

func (cfg Config[K, V]) withDefaults() (Config[K, V], error) {
	if cfg.Topic == "" || cfg.Key == nil || cfg.Load == nil {
		return cfg, errors.New("livecache: Config needs Topic, Key and Load")
	}
	if cfg.Max < 0 || cfg.TTL < 0 || cfg.Batch < 0 || cfg.Loads < 0 || cfg.LoadTimeout < 0 {
		return cfg, fmt.Errorf("livecache: Config.Max %d, TTL %v, Batch %d, Loads %d and LoadTimeout %v must not be negative",
			cfg.Max, cfg.TTL, cfg.Batch, cfg.Loads, cfg.LoadTimeout)
	}
	if cfg.Outage < ServeCached || cfg.Outage > LoadThrough {
		return cfg, fmt.Errorf("livecache: Config.Outage %d is not known", cfg.Outage)
	}
	cfg.Max = orDefault(cfg.Max, defaultMax)
	cfg.Batch = orDefault(cfg.Batch, defaultBatch)
	cfg.Loads = orDefault(cfg.Loads, defaultLoads)
	cfg.LoadTimeout = orDefault(cfg.LoadTimeout, defaultLoadTimeout)
	cfg.Name = orDefault(cfg.Name, "livecache")
	if cfg.Codec == nil {
		cfg.Codec = pghub.KeyValueCodec{}
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	return cfg, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
