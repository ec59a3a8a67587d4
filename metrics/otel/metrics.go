package pghubotel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pghub/pghub"
)

// MetricsConfig makes [Metrics]; nil means its zero value.
type MetricsConfig struct {
	// Provider of the meter. nil: the global one.
	Provider metric.MeterProvider
}

// Metrics are the instruments of a hub.
type Metrics struct {
	hub          *pghub.Hub
	attributes   attribute.Set
	ofHub        []figure[pghub.Stats]
	ofConsumer   []figure[pghub.ConsumerStats]
	durations    metric.Float64Histogram
	registration metric.Registration
}

// figure is an observable instrument, and what it shows.
type figure[T any] struct {
	instrument metric.Float64Observable
	value      func(T) float64
}

// NewMetrics registers the instruments of a hub, in any state of it. The configuration may be nil. The error is the meter's.
func NewMetrics(hub *pghub.Hub, cfg *MetricsConfig) (*Metrics, error) {
	d := newDefiner(cfg)
	m := &Metrics{hub: hub, attributes: hubAttributes(hub)}
	m.ofHub, m.ofConsumer = hubFigures(d), consumerFigures(d)
	m.durations = d.histogram("pghub.handler.duration", "How long calls of handlers took, supervisory events included; of a batch, the whole of it.")
	var err error
	if m.registration, err = d.register(m.observe); err != nil {
		return nil, err
	}
	return m, nil
}

// Close has the figures read no more.
func (m *Metrics) Close() error { return m.registration.Unregister() }

// Observe is middleware: it measures how long each call of a handler takes, also one that panics. The first of a consumer's
// middleware measures the others too. Consumers whose names are many need a view that drops pghub.consumer: here names are not
// counted.
func (m *Metrics) Observe(next pghub.Handler) pghub.Handler {
	return func(ctx context.Context, ev *pghub.Event) {
		begun := time.Now()
		name := ""
		if c := pghub.ConsumerFrom(ctx); c != nil {
			name = c.Name()
		}
		defer func() {
			m.durations.Record(ctx, time.Since(begun).Seconds(), metric.WithAttributeSet(m.attributes), metric.WithAttributes(consumerAttribute(name)))
		}()
		next(ctx, ev)
	}
}

func (m *Metrics) observe(_ context.Context, o metric.Observer) error {
	of := metric.WithAttributeSet(m.attributes)
	observe(o, m.ofHub, m.hub.Stats(), of)
	for _, st := range m.hub.StatsByName() {
		observe(o, m.ofConsumer, st, of, metric.WithAttributes(consumerAttribute(st.Name)))
	}
	return nil
}

func observe[T any](o metric.Observer, figures []figure[T], now T, options ...metric.ObserveOption) {
	for _, f := range figures {
		o.ObserveFloat64(f.instrument, f.value(now), options...)
	}
}

func consumerAttribute(name string) attribute.KeyValue {
	return attribute.String("pghub.consumer", name)
}

func hubAttributes(hub *pghub.Hub, more ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(append(more, attribute.String("pghub.hub", hub.Name()))...)
}

// definer makes instruments, and keeps the first error.
type definer struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func newDefiner(cfg *MetricsConfig) *definer {
	var provider metric.MeterProvider
	if cfg != nil {
		provider = cfg.Provider
	}
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	return &definer{meter: provider.Meter(scope)}
}

// register has the instruments read by a function.
func (d *definer) register(observe metric.Callback) (registration metric.Registration, err error) {
	if err = d.err; err == nil {
		registration, err = d.meter.RegisterCallback(observe, d.all...)
	}
	if err != nil {
		return nil, fmt.Errorf("pghubotel: %w", err)
	}
	return registration, nil
}

func (d *definer) note(o metric.Observable, err error) {
	d.all = append(d.all, o)
	if d.err == nil {
		d.err = err
	}
}

// bounds of durations in seconds, where no view says otherwise.
var bounds = []float64{.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 10, 30}

func (d *definer) histogram(name, description string) metric.Float64Histogram {
	h, err := d.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
	if d.err == nil {
		d.err = err
	}
	return h
}

func counter[T any](d *definer, name, unit, description string, value func(T) uint64) figure[T] {
	c, err := d.meter.Float64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	d.note(c, err)
	return figure[T]{c, func(t T) float64 { return float64(value(t)) }}
}

func gauge[T any](d *definer, name, unit, description string, value func(T) float64) figure[T] {
	g, err := d.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	d.note(g, err)
	return figure[T]{g, value}
}

func flag[T any](d *definer, name, description string, value func(T) bool) figure[T] {
	return gauge(d, name, "1", description, func(t T) float64 {
		if value(t) {
			return 1
		}
		return 0
	})
}

// seconds is a counter of time.
func seconds[T any](d *definer, name, description string, value func(T) float64) figure[T] {
	c, err := d.meter.Float64ObservableCounter(name, metric.WithUnit("s"), metric.WithDescription(description))
	d.note(c, err)
	return figure[T]{c, value}
}
