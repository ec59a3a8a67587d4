package pghubotel

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// A stream's figures, those of its durable consumers, and what the database knows of them, for as long as it answers.
func TestStreamMetrics(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(pgtest.Within(t))) })
	s, err := stream.Open(pgtest.Within(t), hub, stream.Config{})
	require.NoError(t, err)
	reader := metric.NewManualReader()
	cfg := &MetricsConfig{Provider: metric.NewMeterProvider(metric.WithReader(reader))}
	own, err := NewStreamMetrics(hub, s, cfg)
	require.NoError(t, err)
	status, err := NewStreamStatusMetrics(hub, s, cfg)
	require.NoError(t, err)

	handle := func(_ context.Context, ev *pghub.Event) error {
		if ev.Record.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}
	_, err = s.Durable(pgtest.Within(t), "billing", handle, nil)
	require.NoError(t, err)
	halts, err := s.Durable(pgtest.Within(t), "mail", handle, &stream.DurableConfig{MaxAttempts: 1, Poison: stream.Halt})
	require.NoError(t, err)
	require.NoError(t, s.Publish(pgtest.Within(t), "orders", []int64{7}, nil))
	<-halts.Done()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		requireValues(c, read(c, reader), map[string]float64{
			"pghub.stream.connected ":                  1,
			"pghub.stream.published ":                  1,
			"pghub.stream.halted ":                     1,
			"pghub.stream.consumer.delivered billing":  1,
			"pghub.stream.consumer.failed billing":     1,
			"pghub.stream.status.up ":                  1,
			"pghub.stream.has_sequencer ":              1,
			"pghub.stream.consumers ":                  2,
			"pghub.stream.consumer.owned billing":      1,
			"pghub.stream.consumer.lag billing":        0,
			"pghub.stream.consumer.owned mail":         0,
			"pghub.stream.consumer.lag mail":           1,
			"pghub.stream.consumer.in_hand billing":    0,
			"pghub.stream.consumer.parked.now billing": 0,
		})
	}, pgtest.Patience, tick)
	require.Positive(t, read(t, reader)["pghub.stream.consumer.lag.time mail"])

	require.NoError(t, hub.Stop(pgtest.Within(t)))
	pool.Close()
	got := read(t, reader)
	requireValues(t, got, map[string]float64{"pghub.stream.connected ": 0, "pghub.stream.status.up ": 0, "pghub.stream.published ": 1})
	require.NotContains(t, got, "pghub.stream.has_sequencer ")
	require.NoError(t, own.Unregister())
	require.NoError(t, status.Unregister())
	require.Empty(t, read(t, reader))
}

type stillCache struct{}

func (stillCache) Name() string { return "prices" }

func (stillCache) Stats() pghub.CacheStats {
	return pghub.CacheStats{Live: true, Hits: 7, LoadTime: 1500 * time.Millisecond}
}

func TestCacheMetrics(t *testing.T) {
	hub := pghubtest.New(t).NewHub(pghub.Config{Name: "shop"})
	reader := metric.NewManualReader()
	registration, err := NewCacheMetrics(hub, stillCache{}, &MetricsConfig{Provider: metric.NewMeterProvider(metric.WithReader(reader))})
	require.NoError(t, err)
	requireValues(t, read(t, reader), map[string]float64{
		"pghub.cache.live prices":      1,
		"pghub.cache.hits prices":      7,
		"pghub.cache.load.time prices": 1.5,
		"pghub.cache.keys prices":      0,
	})
	require.NoError(t, registration.Unregister())
	require.Empty(t, read(t, reader))
}
