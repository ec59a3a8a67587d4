package pghubotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pghub/pghub"
)

// Cache is what [NewCacheMetrics] asks: a *livecache.Cache is one. Its figures are of a type of package pghub, so that neither module
// requires the other.
type Cache interface {
	Name() string
	Stats() pghub.CacheStats
}

// NewCacheMetrics registers the instruments of a cache, until Unregister is called. hub is the one that the cache was made on. The
// attributes are pghub.hub and pghub.cache, the cache's name: caches of one hub need different ones. The configuration may be
// nil. The error is the meter's.
func NewCacheMetrics(hub *pghub.Hub, cache Cache, cfg *MetricsConfig) (metric.Registration, error) {
	d := newDefiner(cfg)
	figures := cacheFigures(d)
	of := metric.WithAttributeSet(hubAttributes(hub, attribute.String("pghub.cache", cache.Name())))
	return d.register(func(_ context.Context, o metric.Observer) error {
		observe(o, figures, cache.Stats(), of)
		return nil
	})
}

func cacheFigures(d *definer) []figure[pghub.CacheStats] {
	type st = pghub.CacheStats
	return []figure[st]{
		flag(d, "pghub.cache.live", "1 while it hears of changes: not before its topic is in effect, in an outage, and while LoadAll fails.", func(s st) bool { return s.Live }),
		counter(d, "pghub.cache.outages", "{outage}", "How often the connection of the listener was lost.", func(s st) uint64 { return s.Outages }),
		gauge(d, "pghub.cache.keys", "{key}", "Keys in memory, about.", func(s st) float64 { return float64(s.Keys) }),
		counter(d, "pghub.cache.hits", "{key}", "Keys that were answered from memory.", func(s st) uint64 { return s.Hits }),
		counter(d, "pghub.cache.misses", "{key}", "Keys that were not.", func(s st) uint64 { return s.Misses }),
		gauge(d, "pghub.cache.loading", "{key}", "Keys that somebody waits for.", func(s st) float64 { return float64(s.Loading) }),
		counter(d, "pghub.cache.loads", "{call}", "Calls of Load that have ended.", func(s st) uint64 { return s.Loads }),
		counter(d, "pghub.cache.load.errors", "{call}", "Of these, with an error.", func(s st) uint64 { return s.LoadErrors }),
		seconds(d, "pghub.cache.load.time", "How long these took, all together.", func(s st) float64 { return s.LoadTime.Seconds() }),
		counter(d, "pghub.cache.fenced", "{value}", "Values that were not kept, because an event came while they were loaded.", func(s st) uint64 { return s.Fenced }),
		counter(d, "pghub.cache.invalidations", "{key}", "Keys that were invalidated, by events or by hand.", func(s st) uint64 { return s.Invalidations }),
		counter(d, "pghub.cache.evictions", "{key}", "Keys that were not kept any longer for lack of room.", func(s st) uint64 { return s.Evictions }),
		counter(d, "pghub.cache.drops", "{drop}", "How often everything was dropped: in the beginning, at gaps, and at events that may be about every key.", func(s st) uint64 { return s.Drops }),
		counter(d, "pghub.cache.misunderstood", "{event}", "Events that the cache could not read, and dropped everything for.", func(s st) uint64 { return s.Misunderstood }),
	}
}
