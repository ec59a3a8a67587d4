package pghubprom

import (
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/pghubtest"
)

func TestNothingOfCachesIsLeftOut(t *testing.T) {
	requireAll(t, cacheMetrics(describer{}), nil)
}

// stillCache is a cache to which nothing happens.
type stillCache struct {
	name  string
	stats pghub.CacheStats
}

func (c stillCache) Name() string            { return c.name }
func (c stillCache) Stats() pghub.CacheStats { return c.stats }

// Caches of a hub are told apart by their names.
func TestCacheCollector(t *testing.T) {
	hub := pghubtest.New(t).NewHub(pghub.Config{Name: "shop"})
	prices := stillCache{"prices", pghub.CacheStats{Live: true, Hits: 7, LoadTime: 1500 * time.Millisecond}}
	registry := registryOf(New(hub, nil), NewCache(hub, prices, nil), NewCache(hub, stillCache{name: "people"}, nil))
	requireValues(t, gathered(t, registry), map[string]float64{
		`pghub_cache_live{cache="prices",hub="shop"}`:               1,
		`pghub_cache_hits_total{cache="prices",hub="shop"}`:         7,
		`pghub_cache_load_seconds_total{cache="prices",hub="shop"}`: 1.5,
		`pghub_cache_live{cache="people",hub="shop"}`:               0,
	})
	require.Error(t, registry.Register(NewCache(hub, prices, nil)))
}

// busyCache is a cache whose figures grow each time that somebody looks.
type busyCache struct{ looks atomic.Uint64 }

func (*busyCache) Name() string { return "prices" }

func (c *busyCache) Stats() pghub.CacheStats {
	n := c.looks.Add(1)
	return pghub.CacheStats{
		Live: true, Outages: n, Keys: 7, Hits: 9 * n, Misses: n, Loading: 1, Loads: n, LoadErrors: n, LoadTime: time.Duration(n) * time.Second,
		Fenced: n, Invalidations: n, Evictions: n, Drops: n, Misunderstood: n,
	}
}

// serveCache serves the figures of a cache, and returns their URL.
func serveCache(t *testing.T) string {
	t.Helper()
	hub := pghubtest.New(t).NewHub(pghub.Config{Name: "shop"})
	server := httptest.NewServer(promhttp.HandlerFor(registryOf(NewCache(hub, &busyCache{}, nil)), promhttp.HandlerOpts{}))
	t.Cleanup(server.Close)
	return server.URL + "/metrics"
}
