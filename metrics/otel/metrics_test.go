package pghubotel

import (
	"context"
	"errors"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/pghubtest"
)

// read returns what a reader gets, by name of the instrument and of consumer or cache. Of a histogram, it is the count.
func read(t require.TestingT, reader *metric.ManualReader) map[string]float64 {
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &all))
	values := make(map[string]float64)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			points := func(points []metricdata.DataPoint[float64]) {
				for _, p := range points {
					hub, _ := p.Attributes.Value("pghub.hub")
					require.Equal(t, "shop", hub.AsString())
					name, of := p.Attributes.Value("pghub.consumer")
					if !of {
						name, _ = p.Attributes.Value("pghub.cache")
					}
					values[m.Name+" "+name.AsString()] = p.Value
				}
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[float64]:
				require.True(t, data.IsMonotonic)
				points(data.DataPoints)
			case metricdata.Gauge[float64]:
				points(data.DataPoints)
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					name, _ := p.Attributes.Value("pghub.consumer")
					values[m.Name+" "+name.AsString()] = float64(p.Count)
					values[m.Name+" sum "+name.AsString()] = p.Sum
				}
			default:
				require.Fail(t, "unknown", "%T", data)
			}
		}
	}
	return values
}

func requireValues(t require.TestingT, got, want map[string]float64) {
	for name, value := range want {
		require.Contains(t, got, name)
		require.InDelta(t, value, got[name], 0, name)
	}
}

// What happened to a hub and to a consumer is what the instruments say, until they are closed.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := pghubtest.New(t).NewHub(pghub.Config{Name: "shop"})
		reader := metric.NewManualReader()
		metrics, err := NewMetrics(hub, &MetricsConfig{Provider: metric.NewMeterProvider(metric.WithReader(reader))})
		require.NoError(t, err)
		_, err = hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				time.Sleep(time.Minute)
			}
		}, &pghub.ConsumerConfig{Name: "orders", Topics: []string{"orders"}, Middleware: []pghub.Middleware{metrics.Observe}})
		require.NoError(t, err)
		require.NoError(t, hub.Notify(t.Context(), "orders", []int64{1}, nil))
		require.NoError(t, hub.Notify(t.Context(), "orders", []int64{2}, nil))
		synctest.Wait()
		time.Sleep(59 * time.Second)
		requireValues(t, read(t, reader), map[string]float64{
			"pghub.listening ":                       1,
			"pghub.received ":                        2,
			"pghub.published ":                       2,
			"pghub.consumer.queued orders":           1,
			"pghub.consumer.oldest_event.age orders": 59,
			"pghub.handler.duration orders":          1, // subscribe
		})
		time.Sleep(time.Hour)
		requireValues(t, read(t, reader), map[string]float64{
			"pghub.consumer.delivered orders":        3,
			"pghub.consumer.oldest_event.age orders": 0,
			"pghub.handler.duration orders":          3,
			"pghub.handler.duration sum orders":      120,
		})
		require.NoError(t, metrics.Close())
		require.NotContains(t, read(t, reader), "pghub.received ")
	})
}

// Each figure of Stats and ConsumerStats has its instrument.
func TestNothingIsLeftOut(t *testing.T) {
	d := &definer{meter: noop.NewMeterProvider().Meter("")}
	requireAll(t, hubFigures(d), map[string]bool{ // sums over consumers
		"Delivered": true, "Queued": true, "Dropped": true, "Panics": true, "Gaps": true, "Lags": true, "Resyncs": true, "ResyncErrors": true,
		"Batches": true,
	})
	requireAll(t, consumerFigures(d), nil)
	requireAll(t, streamFigures(d), nil)
	requireAll(t, durableFigures(d), nil)
	requireAll(t, statusFigures(d), nil)
	requireAll(t, consumerStatusFigures(d), nil)
	requireAll(t, cacheFigures(d), nil)
	require.NoError(t, d.err)
}

// failing makes no instrument of a name.
type failing struct {
	noop.MeterProvider
	name string
}

type failingMeter struct {
	api.Meter
	name string
}

var errInstrument = errors.New("no such instrument")

func (f failing) Meter(name string, options ...api.MeterOption) api.Meter {
	return failingMeter{f.MeterProvider.Meter(name, options...), f.name}
}

func (f failingMeter) Float64ObservableGauge(name string, options ...api.Float64ObservableGaugeOption) (api.Float64ObservableGauge, error) {
	if name == f.name {
		return noop.Float64ObservableGauge{}, errInstrument
	}
	return f.Meter.Float64ObservableGauge(name, options...)
}

func (f failingMeter) Float64Histogram(name string, options ...api.Float64HistogramOption) (api.Float64Histogram, error) {
	if name == f.name {
		return noop.Float64Histogram{}, errInstrument
	}
	return f.Meter.Float64Histogram(name, options...)
}

// A meter that makes not all instruments is told of.
func TestInstrumentsThatAreNotMade(t *testing.T) {
	hub := pghubtest.New(t).Hub()
	for _, name := range []string{"pghub.topics", "pghub.handler.duration"} {
		_, err := NewMetrics(hub, &MetricsConfig{Provider: failing{name: name}})
		require.ErrorIs(t, err, errInstrument, name)
		require.ErrorContains(t, err, "pghubotel: ")
	}
	m, err := NewMetrics(hub, &MetricsConfig{Provider: failing{}})
	require.NoError(t, err)
	require.NoError(t, m.Close())
}

func requireAll[T any](t *testing.T, figures []figure[T], elsewhere map[string]bool) {
	t.Helper()
	var now T
	fields := reflect.ValueOf(&now).Elem()
	for i := range fields.NumField() {
		number, f := 1000+i, fields.Field(i)
		switch f.Type() {
		case reflect.TypeFor[uint64]():
			f.SetUint(uint64(number))
		case reflect.TypeFor[int](), reflect.TypeFor[int64]():
			f.SetInt(int64(number))
		case reflect.TypeFor[time.Duration]():
			f.SetInt(int64(number) * int64(time.Second))
		default:
			continue
		}
		name, found := fields.Type().Field(i).Name, 0
		for _, one := range figures {
			if math.Abs(one.value(now)-float64(number)) < .5 {
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
