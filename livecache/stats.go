package livecache

import (
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
)

// Stats are the figures of a [Cache] since New.
type Stats = pghub.CacheStats

type counters struct {
	outages, hits, misses, loads, failures, fenced, invalidations, evictions, drops, misunderstood atomic.Uint64

	loading  atomic.Int64
	loadTime atomic.Int64 // nanoseconds
}

// Stats returns the cache's figures.
func (c *Cache[K, V]) Stats() Stats {
	return Stats{
		Live: c.hears.Load(), Outages: c.outages.Load(), Keys: c.entries.EstimatedSize(), Hits: c.hits.Load(), Misses: c.misses.Load(),
		Loading: int(c.loading.Load()), Loads: c.loads.Load(), LoadErrors: c.failures.Load(), LoadTime: time.Duration(c.loadTime.Load()),
		Fenced: c.fenced.Load(), Invalidations: c.invalidations.Load(), Evictions: c.evictions.Load(),
		Drops: c.drops.Load(), Misunderstood: c.misunderstood.Load(),
	}
}

// Name is the cache's, in figures: that of its consumer.
func (c *Cache[K, V]) Name() string { return c.cfg.Name }
