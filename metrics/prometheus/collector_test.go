package pghubprom

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
)

// What happened to a hub and to a consumer is what the metrics say, and how long handlers took.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := pghubtest.New(t)
		hub := server.NewHub(pghub.Config{Name: "shop"})
		metrics := New(hub, &Config{Labels: prometheus.Labels{"site": "north"}})
		registry := registryOf(metrics)
		release := make(chan struct{})
		handle := func(_ context.Context, ev *pghub.Event) {
			switch {
			case ev.Advisory != nil:
			case ev.Key[0] == 1:
				panic("on purpose")
			default:
				<-release
			}
		}
		_, err := hub.Consumer(t.Context(), handle, &pghub.ConsumerConfig{
			Name: "orders", Topics: []string{"orders"}, Middleware: []pghub.Middleware{metrics.Observe},
			Resync: func(context.Context, pghub.Gap) error { return nil },
		})
		require.NoError(t, err)
		require.NoError(t, hub.Notify(t.Context(), "orders", []int64{1}, nil))
		require.NoError(t, hub.Notify(t.Context(), "orders", []int64{2}, nil))
		server.Notify("orders", "e3")
		server.Notify("orders", "nonsense")
		synctest.Wait()
		time.Sleep(time.Minute)
		requireValues(t, gathered(t, registry), map[string]float64{
			`pghub_listening{hub="shop",site="north"}`:                                           1,
			`pghub_received_total{hub="shop",site="north"}`:                                      4,
			`pghub_undecodable_total{hub="shop",site="north"}`:                                   1,
			`pghub_published_total{hub="shop",site="north"}`:                                     2,
			`pghub_topics_listening{hub="shop",site="north"}`:                                    1,
			`pghub_consumer_delivered_total{consumer="orders",hub="shop",site="north"}`:          2, // subscribe, and the panic
			`pghub_consumer_panics_total{consumer="orders",hub="shop",site="north"}`:             1,
			`pghub_consumer_queued_events{consumer="orders",hub="shop",site="north"}`:            1,
			`pghub_consumer_oldest_event_age_seconds{consumer="orders",hub="shop",site="north"}`: 60,
			`pghub_handler_duration_seconds{consumer="orders",hub="shop",site="north"}`:          2,
		})
		close(release)
		synctest.Wait()
		server.Disconnect()
		time.Sleep(time.Minute)
		requireValues(t, gathered(t, registry), map[string]float64{
			`pghub_reconnects_total{hub="shop",site="north"}`:                                    1,
			`pghub_consumer_gaps_total{consumer="orders",hub="shop",site="north"}`:               1,
			`pghub_consumer_resyncs_total{consumer="orders",hub="shop",site="north"}`:            1,
			`pghub_consumer_oldest_event_age_seconds{consumer="orders",hub="shop",site="north"}`: 0,
			`pghub_handler_duration_seconds{consumer="orders",hub="shop",site="north"}`:          6, // and disconnect, reconnect
		})
		server.Down()
		time.Sleep(time.Minute)
		requireValues(t, gathered(t, registry), map[string]float64{`pghub_listening{hub="shop",site="north"}`: 0})
	})
}

// Durations are in the right bucket.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := pghubtest.New(t).Hub()
		metrics := New(hub, &Config{Buckets: []float64{1, 60}})
		registry := registryOf(metrics)
		_, err := hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				time.Sleep(30 * time.Second)
			}
		}, &pghub.ConsumerConfig{Topics: []string{"a"}, Middleware: []pghub.Middleware{metrics.Observe}})
		require.NoError(t, err)
		require.NoError(t, hub.Notify(t.Context(), "a", nil, nil))
		time.Sleep(time.Hour)
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() != "pghub_handler_duration_seconds" {
				continue
			}
			h := family.GetMetric()[0].GetHistogram()
			require.EqualValues(t, 2, h.GetSampleCount())
			require.InDelta(t, 30, h.GetSampleSum(), 0)
			require.EqualValues(t, 1, h.GetBucket()[0].GetCumulativeCount())
			require.EqualValues(t, 2, h.GetBucket()[1].GetCumulativeCount())
			return
		}
		require.Fail(t, "no durations")
	})
}

// Several hubs share a registry, told apart by their names. Two of the same name are refused at once, and not when asked.
func TestSeveralHubs(t *testing.T) {
	server := pghubtest.New(t)
	a, b := server.NewHub(pghub.Config{Name: "a"}), server.NewHub(pghub.Config{Name: "b"})
	registry := registryOf(New(a, nil), New(b, nil))
	got := gathered(t, registry)
	requireValues(t, got, map[string]float64{`pghub_listening{hub="a"}`: 1, `pghub_listening{hub="b"}`: 1})
	require.Error(t, registry.Register(New(server.NewHub(pghub.Config{Name: "a"}), nil)))
}

// However many names consumers have, there are not so many series; and those that are gone go on counting.
func TestNamesAreBounded(t *testing.T) {
	server := pghubtest.New(t)
	hub := server.Hub()
	metrics := New(hub, nil)
	registry := registryOf(metrics)
	for i := range 2 * maxNames {
		c, err := hub.Consumer(t.Context(), func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
			Name: fmt.Sprint("client", i), Middleware: []pghub.Middleware{metrics.Observe},
		})
		require.NoError(t, err)
		require.NoError(t, c.Drain(pgtest.Within(t)))
	}
	got, series, sums := gathered(t, registry), map[string]int{}, map[string]float64{}
	for name, value := range got {
		family, _, _ := strings.Cut(name, "{")
		series[family]++
		sums[family] += value
	}
	for _, family := range []string{"pghub_consumer_delivered_total", "pghub_handler_duration_seconds"} {
		require.LessOrEqual(t, series[family], maxNames+1)
		require.InDelta(t, 2*maxNames, sums[family], 0, family)
	}
	require.Greater(t, got[`pghub_handler_duration_seconds{consumer="",hub=""}`], 1.0)
}

// Each figure of Stats and ConsumerStats has its metric: a field that is added is not forgotten.
func TestNothingIsLeftOut(t *testing.T) {
	d := describer{}
	elsewhere := map[string]bool{ // sums over consumers, which Prometheus makes by itself
		"Delivered": true, "Queued": true, "Dropped": true, "Panics": true, "Gaps": true, "Lags": true, "Resyncs": true, "ResyncErrors": true,
		"Batches": true, "PID": true,
	}
	requireAll(t, hubMetrics(d), elsewhere)
	requireAll(t, consumerMetrics(d), nil)
}

func requireAll[T any](t *testing.T, metrics []metric[T], elsewhere map[string]bool) {
	t.Helper()
	var figures T
	fields := reflect.ValueOf(&figures).Elem()
	for i := range fields.NumField() {
		number := float64(1000 + i)
		switch f := fields.Field(i); {
		case f.Kind() == reflect.Uint64:
			f.SetUint(uint64(number))
		case f.Type() == reflect.TypeFor[int](), f.Type() == reflect.TypeFor[int64]():
			f.SetInt(int64(number))
		case f.Type() == reflect.TypeFor[time.Duration]():
			f.SetInt(int64(number) * int64(time.Second))
		case f.Kind() == reflect.Uint32:
			f.SetUint(uint64(number))
		default:
			continue
		}
		name, found := fields.Type().Field(i).Name, 0
		for _, m := range metrics {
			if math.Abs(m.value(figures)-number) < .5 {
				found++
			}
		}
		if elsewhere[name] {
			require.Zero(t, found, name)
		} else {
			require.Equal(t, 1, found, name)
		}
	}
}
