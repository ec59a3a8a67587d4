package pghub

import "time"

// CacheStats are the figures of a cache since it was made. Module livecache has them as its Stats; the type is here so that the modules
// that bring figures to Prometheus and OpenTelemetry need not require the cache.
type CacheStats struct {
	// Live: it hears of changes; on a hub that is PollOnly: it has been read. false before the topic is in effect, from a lost connection until
	// Resync is over, while LoadAll fails, and in the end.
	Live    bool
	Outages uint64 // how often the connection of the listener was lost

	Keys          int           // in memory, about
	Hits          uint64        // keys that were answered from memory
	Misses        uint64        // keys that were not
	Loading       int           // keys that somebody waits for, at the moment
	Loads         uint64        // calls of Load that have ended
	LoadErrors    uint64        // of these, with an error
	LoadTime      time.Duration // that these took, all together
	Fenced        uint64        // values that were not kept, because an event came while they were loaded
	Invalidations uint64        // keys that were invalidated, by events or by hand
	Evictions     uint64        // keys that were not kept any longer for lack of room
	Drops         uint64        // of everything: in the beginning, at gaps, by ErrAll; those of ResyncEvery are not counted
	Misunderstood uint64        // events that Key or Codec could not read
}
