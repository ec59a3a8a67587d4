package livecache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pghub/pghub"
)

// flight is a key on its way. It is in Cache.flights while others may join it, and in Cache.pending until a load takes it.
type flight[K comparable, V any] struct {
	key  K
	done chan struct{}

	// Owned by Cache.mu.
	began      bool   // Load is called, or about to be: a change that is announced from now on may not be in its result
	fenced     bool   // such a change was announced: the result is not kept
	generation uint64 // of the cache when it began

	// Written before done is closed.
	entry entry[V]
	err   error
}

// wait returns the outcome, or that ctx has ended.
func (f *flight[K, V]) wait(ctx context.Context) (value V, found bool, err error) {
	select {
	case <-f.done:
		return f.entry.value, f.entry.found, f.err
	case <-ctx.Done():
		return value, false, ctx.Err()
	}
}

func (f *flight[K, V]) settle(e entry[V], err error) {
	f.entry, f.err = e, err
	close(f.done)
}

// join returns a flight for each key: one that is under way, or a new one.
func (c *Cache[K, V]) join(keys []K) ([]*flight[K, V], error) {
	c.misses.Add(uint64(len(keys)))
	joined := make([]*flight[K, V], 0, len(keys))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("livecache: %w", pghub.ErrClosed)
	}
	for _, key := range keys {
		f := c.flights[key]
		switch e, hit := c.lookUp(key); {
		case hit: // it has just been loaded
			f = &flight[K, V]{key: key, done: make(chan struct{})}
			f.settle(e, nil)
		case f == nil, f.began && !c.live.Load(): // without events nobody can tell whether a load that has begun is too old
			f = &flight[K, V]{key: key, done: make(chan struct{})}
			c.flights[key] = f
			c.pending = append(c.pending, f)
			c.loading.Add(1)
		}
		joined = append(joined, f)
	}
	for c.loaders < c.cfg.Loads && c.loaders*c.cfg.Batch < len(c.pending) {
		c.loaders++
		go c.load()
	}
	return joined, nil
}

// load is a loader's life: one Load after another, until no key is pending.
func (c *Cache[K, V]) load() {
	for {
		batch := c.take()
		if len(batch) == 0 {
			return
		}
		c.loadBatch(batch)
	}
}

// take takes what the next Load is to be asked for. With nothing to do the loader ends.
func (c *Cache[K, V]) take() []*flight[K, V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.pending), c.cfg.Batch)
	batch := c.pending[:n:n]
	if c.pending = c.pending[n:]; n == 0 {
		c.pending = nil
		c.loaders--
	}
	for _, f := range batch {
		f.began, f.generation = true, c.generation.Load()
	}
	return batch
}

var errEnded = errors.New("livecache: Load has ended its goroutine")

// loadBatch calls Load, and settles the flights whatever that does.
func (c *Cache[K, V]) loadBatch(batch []*flight[K, V]) {
	var values map[K]V
	err, returned := errEnded, false
	began := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("livecache: Load panicked: %v\n%s", v, debug.Stack())
		}
		c.loadTime.Add(int64(time.Since(began)))
		c.land(batch, values, err)
		if !returned && err == errEnded { // runtime.Goexit: another goroutine goes on
			go c.load()
		}
	}()
	keys := make([]K, len(batch))
	for i, f := range batch {
		keys[i] = f.key
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.LoadTimeout)
	defer cancel()
	values, err = c.cfg.Load(ctx, keys)
	returned = true
}

// land settles flights, and keeps what may be kept.
func (c *Cache[K, V]) land(batch []*flight[K, V], values map[K]V, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loads.Add(1)
	c.loading.Add(-int64(len(batch)))
	if err != nil {
		c.failures.Add(1)
		if c.closed {
			err = fmt.Errorf("livecache: %w: %w", pghub.ErrClosed, err)
		}
	}
	for _, f := range batch {
		if c.flights[f.key] == f {
			delete(c.flights, f.key)
		}
		var e entry[V]
		if err == nil {
			e.value, e.found = values[f.key]
			e.generation = f.generation
			c.keepLocked(f, e)
		}
		f.settle(e, err)
	}
}

// keepLocked stores what was loaded, unless it may be older than an event that was delivered meanwhile, or events do not come.
func (c *Cache[K, V]) keepLocked(f *flight[K, V], e entry[V]) {
	switch {
	case !c.live.Load():
	case f.fenced || f.generation != c.generation.Load():
		c.fenced.Add(1)
	default:
		c.entries.Set(f.key, e)
	}
}
