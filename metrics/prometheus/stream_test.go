package pghubprom

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestNothingOfStreamsIsLeftOut(t *testing.T) {
	requireAll(t, streamMetrics(describer{}), map[string]bool{"PID": true}) // connected
	requireAll(t, durableMetrics(describer{}), nil)
}

// Durable consumers of one name are one: else a registry would refuse all that it has.
func TestDurablesOfOneName(t *testing.T) {
	sums := sumDurables([]stream.DurableStats{
		{Name: "a", Working: true, Delivered: 1, Failed: 2, Parked: 3, Resyncs: 4, InHand: 5},
		{Name: "b", Delivered: 10},
		{Name: "a", Delivered: 10, Failed: 20, Parked: 30, Resyncs: 40, InHand: 50},
	})
	require.Equal(t, map[string]stream.DurableStats{
		"a": {Name: "a", Working: true, Delivered: 11, Failed: 22, Parked: 33, Resyncs: 44, InHand: 55},
		"b": {Name: "b", Delivered: 10},
	}, sums)
}

// A stream's figures, and those of its durable consumers.
func TestStreamCollector(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(pgtest.Within(t))) })
	require.NoError(t, hub.Start(pgtest.Within(t)))
	s, err := stream.Open(pgtest.Within(t), hub, stream.Config{})
	require.NoError(t, err)
	handle := func(_ context.Context, ev *pghub.Event) error {
		if ev.Record.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}
	_, err = s.Durable(pgtest.Within(t), "billing", handle, &stream.DurableConfig{From: stream.Earliest})
	require.NoError(t, err)
	require.NoError(t, s.Publish(pgtest.Within(t), "orders", []int64{7}, nil))
	registry := registryOf(New(hub, nil), NewStream(hub, s, nil))
	require.Eventually(t, func() bool {
		got := gathered(t, registry)
		return got[`pghub_stream_consumer_delivered_total{consumer="billing",hub="shop"}`] == 1 &&
			got[`pghub_stream_consumer_in_hand_events{consumer="billing",hub="shop"}`] == 0
	}, pgtest.Patience, 5*time.Millisecond)
	requireValues(t, gathered(t, registry), map[string]float64{
		`pghub_stream_published_total{hub="shop"}`:                          1,
		`pghub_stream_consumer_failed_total{consumer="billing",hub="shop"}`: 1,
		`pghub_stream_consumer_working{consumer="billing",hub="shop"}`:      1,
	})
}
