package pghubprom

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
)

// Cache is what a [CacheCollector] asks: a *livecache.Cache is one. Its figures are of a type of package pghub, so that neither module
// requires the other.
type Cache interface {
	Name() string
	Stats() pghub.CacheStats
}

// CacheCollector is a prometheus.Collector of a cache's figures.
type CacheCollector struct {
	cache   Cache
	figures []metric[pghub.CacheStats]
}

var _ prometheus.Collector = (*CacheCollector)(nil)

// NewCache makes a collector of a cache, to be registered once. hub is the one that the cache was made on: its name is the label hub. The
// label cache is the cache's name, so caches of one hub need different ones: a registry refuses the second one of a name. Of the
// configuration, which may be nil, Labels count.
func NewCache(hub *pghub.Hub, cache Cache, cfg *Config) *CacheCollector {
	if cfg == nil {
		cfg = &Config{}
	}
	labels := prometheus.Labels{"cache": cache.Name()}
	maps.Copy(labels, withHub(cfg.Labels, hub))
	return &CacheCollector{cache: cache, figures: cacheMetrics(describer{prefix: "pghub_cache_", labels: labels})}
}

// Describe is part of prometheus.Collector.
func (c *CacheCollector) Describe(ch chan<- *prometheus.Desc) { describe(ch, c.figures) }

// Collect is part of prometheus.Collector.
func (c *CacheCollector) Collect(ch chan<- prometheus.Metric) {
	collect(ch, c.figures, c.cache.Stats())
}

func cacheMetrics(d describer) []metric[pghub.CacheStats] {
	type st = pghub.CacheStats
	return []metric[st]{
		gauge(d, "live", "1 while it hears of changes: not before its topic is in effect, in an outage, and while LoadAll fails.", func(s st) float64 { return oneIf(s.Live) }),
		counter(d, "outages_total", "How often the connection of the listener was lost.", func(s st) uint64 { return s.Outages }),
		gauge(d, "keys", "Keys in memory, about.", func(s st) float64 { return float64(s.Keys) }),
		counter(d, "hits_total", "Keys that were answered from memory.", func(s st) uint64 { return s.Hits }),
		counter(d, "misses_total", "Keys that were not.", func(s st) uint64 { return s.Misses }),
		gauge(d, "loading_keys", "Keys that somebody waits for.", func(s st) float64 { return float64(s.Loading) }),
		counter(d, "loads_total", "Calls of Load that have ended.", func(s st) uint64 { return s.Loads }),
		counter(d, "load_errors_total", "Of these, with an error.", func(s st) uint64 { return s.LoadErrors }),
		{d.desc("load_seconds_total", "How long these took, all together."), prometheus.CounterValue, func(s st) float64 { return s.LoadTime.Seconds() }},
		counter(d, "fenced_total", "Values that were not kept, because an event came while they were loaded.", func(s st) uint64 { return s.Fenced }),
		counter(d, "invalidations_total", "Keys that were invalidated, by events or by hand.", func(s st) uint64 { return s.Invalidations }),
		counter(d, "evictions_total", "Keys that were not kept any longer for lack of room.", func(s st) uint64 { return s.Evictions }),
		counter(d, "drops_total", "How often everything was dropped: in the beginning, at gaps, and at events that may be about every key.", func(s st) uint64 { return s.Drops }),
		counter(d, "misunderstood_total", "Events that the cache could not read, and dropped everything for.", func(s st) uint64 { return s.Misunderstood }),
	}
}
