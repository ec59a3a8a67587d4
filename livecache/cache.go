package livecache

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/pghub/pghub"
)

// Cache holds copies that events invalidate; see the package comment. All methods may be called from any goroutine.
type Cache[K comparable, V any] struct {
	cfg      Config[K, V]
	consumer *pghub.Consumer
	entries  *otter.Cache[K, entry[V]] // changed under mu, read without
	ready    chan struct{}             // closed when Resync has succeeded for the first time
	becomes  sync.Once                 // ready

	// What the consumer's stream has said of the topic. These are owned by the consumer's goroutine.
	begun   bool // it has come into effect
	lost    bool // the connection is lost
	refused bool // there is a connection again, and the server does not let it listen to the topic

	ctx    context.Context // of loads
	cancel context.CancelFunc

	// generation grows when everything is dropped: entries and loads of an older one are void. It changes under mu.
	generation atomic.Uint64
	// live: events come, or their absence is told. Else nothing is kept. It changes under mu.
	live atomic.Bool
	// hears is what Stats say: live, and connected, and read anew after the last gap.
	hears atomic.Bool

	mu      sync.Mutex
	closed  bool
	flights map[K]*flight[K, V] // the ones to join
	pending []*flight[K, V]     // that no load has begun for
	loaders int                 // goroutines
	spared  map[K]struct{}      // while LoadAll runs: keys that were invalidated meanwhile, by hand

	counters
}

// entry is what is known of a key.
type entry[V any] struct {
	value      V
	found      bool
	generation uint64
}

// New makes a cache on a hub, which may be started before or after. It returns as [pghub.Hub.Consumer] does: once the topic is
// in effect, if the hub has been started; ctx bounds that wait. Close it when it is of no use any more.
func New[K comparable, V any](ctx context.Context, hub *pghub.Hub, cfg Config[K, V]) (*Cache[K, V], error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cache[K, V]{cfg: cfg, ready: make(chan struct{}), flights: make(map[K]*flight[K, V])}
	options := &otter.Options[K, entry[V]]{MaximumSize: cfg.Max, OnAtomicDeletion: func(e otter.DeletionEvent[K, entry[V]]) {
		if e.Cause == otter.CauseOverflow {
			c.evictions.Add(1)
		}
	}}
	if cfg.TTL > 0 {
		options.ExpiryCalculator = otter.ExpiryWriting[K, entry[V]](cfg.TTL)
	}
	if c.entries, err = otter.New(options); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.consumer, err = hub.Consumer(ctx, c.handle, &pghub.ConsumerConfig{
		Name:         cfg.Name,
		Topics:       []string{cfg.Topic},
		QueueSize:    cfg.QueueSize,
		Resync:       c.resync,
		ResyncFirst:  true,
		ResyncEvery:  cfg.ResyncEvery,
		ResyncJitter: cfg.ResyncJitter,
		Codec:        pghub.RawCodec{}, // what Codec refuses is an event all the same
	})
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// Ready is closed when the topic has come into effect and LoadAll, if there is one, has succeeded. Until then Get answers by a load
// each time.
func (c *Cache[K, V]) Ready() <-chan struct{} { return c.ready }

// Get returns the value of a key, and whether there is one: from memory, or by a load that others may share. The error is that
// of Load, of ctx, or [pghub.ErrClosed].
func (c *Cache[K, V]) Get(ctx context.Context, key K) (value V, found bool, err error) {
	if e, hit := c.lookUp(key); hit {
		c.hits.Add(1)
		return e.value, e.found, nil
	}
	joined, err := c.join([]K{key})
	if err != nil {
		return value, false, err
	}
	return joined[0].wait(ctx)
}

// GetAll returns the values of those keys that have one. What is not in memory is asked for together. Errors are those of Get.
func (c *Cache[K, V]) GetAll(ctx context.Context, keys []K) (map[K]V, error) {
	values := make(map[K]V, len(keys))
	var missing []K
	for _, key := range keys {
		if e, hit := c.lookUp(key); !hit {
			missing = append(missing, key)
		} else if e.found {
			values[key] = e.value
		}
	}
	c.hits.Add(uint64(len(keys) - len(missing)))
	joined, err := c.join(missing)
	if err != nil {
		return nil, err
	}
	for _, f := range joined {
		value, found, err := f.wait(ctx)
		if err != nil {
			return nil, err
		}
		if found {
			values[f.key] = value
		}
	}
	return values, nil
}

// All goes through what is in memory, in no order, without loading anything.
func (c *Cache[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key, e := range c.entries.All() {
			if c.isValid(e) && e.found && !yield(key, e.value) {
				return
			}
		}
	}
}

// Invalidate forgets keys, as an event about them would: after a write of your own, for whoever reads before the event is back.
func (c *Cache[K, V]) Invalidate(keys ...K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		c.entries.Invalidate(key)
		if c.spared != nil {
			c.spared[key] = struct{}{}
		}
		if f := c.flights[key]; f != nil && f.began { // else it will see what is committed now
			f.fenced = true
			delete(c.flights, key)
		}
	}
	c.invalidations.Add(uint64(len(keys)))
}

// InvalidateAll forgets everything.
func (c *Cache[K, V]) InvalidateAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked()
}

// Close ends the cache: its consumer, and its loads. Get then returns [pghub.ErrClosed]. It waits for nothing. It always
// returns nil; a second call does nothing.
func (c *Cache[K, V]) Close() error {
	_ = c.consumer.Close() // never fails
	c.end()
	return nil
}

func (c *Cache[K, V]) end() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.setLiveLocked(false)
	c.hears.Store(false)
	for _, f := range c.pending {
		f.settle(entry[V]{}, pghub.ErrClosed)
	}
	c.loading.Add(-int64(len(c.pending)))
	c.pending, c.flights = nil, nil
	c.entries.StopAllGoroutines()
}

func (c *Cache[K, V]) lookUp(key K) (e entry[V], hit bool) {
	e, hit = c.entries.GetIfPresent(key)
	return e, hit && c.isValid(e)
}

func (c *Cache[K, V]) isValid(e entry[V]) bool { return e.generation == c.generation.Load() }

// setLiveLocked begins or ends a time in which what is loaded may be kept.
func (c *Cache[K, V]) setLiveLocked(live bool) {
	c.live.Store(live && !c.closed)
	c.dropLocked()
}

// dropLocked forgets everything, for a reason that somebody may want to know of.
func (c *Cache[K, V]) dropLocked() {
	c.drops.Add(1)
	c.forgetLocked()
}

// forgetLocked forgets everything, what is being loaded included.
func (c *Cache[K, V]) forgetLocked() {
	c.generation.Add(1)
	for key, f := range c.flights {
		if f.began {
			delete(c.flights, key)
		}
	}
	c.entries.InvalidateAll()
}
