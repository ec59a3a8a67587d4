package livecache

import "sync/atomic"

// Stats are the figures of a [Cache] since New.
type Stats struct {
	Keys          int    // in memory, about
	Hits          uint64 // keys that were answered from memory
	Misses        uint64 // keys that were not
	Loads         uint64 // calls of Load that have ended
	LoadErrors    uint64 // of these, with an error
	Fenced        uint64 // values that were not kept, because an event came while they were loaded
	Invalidations uint64 // keys that events have named
	Drops         uint64 // of everything: in the beginning, at gaps, by ErrAll
	Misunderstood uint64 // events that Key or Codec could not read
}

type counters struct {
	hits, misses, loads, failures, fenced, invalidations, drops, misunderstood atomic.Uint64
}

// Stats returns the cache's figures.
func (c *Cache[K, V]) Stats() Stats {
	return Stats{
		Keys: c.entries.EstimatedSize(), Hits: c.hits.Load(), Misses: c.misses.Load(), Loads: c.loads.Load(), LoadErrors: c.failures.Load(),
		Fenced: c.fenced.Load(), Invalidations: c.invalidations.Load(), Drops: c.drops.Load(), Misunderstood: c.misunderstood.Load(),
	}
}
