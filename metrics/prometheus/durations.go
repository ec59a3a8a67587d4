package pghubprom

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
)

// durations is how long handlers take, by consumer.
type durations struct {
	histograms *prometheus.HistogramVec

	mu    sync.Mutex
	names map[string]prometheus.Observer
}

// maxNames is that of the hub, so that a name has its label in both.
const maxNames = 256

var defaultBuckets = []float64{.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 10, 30}

func newDurations(labels prometheus.Labels, buckets []float64) *durations {
	if buckets == nil {
		buckets = defaultBuckets
	}
	return &durations{
		histograms: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "pghub_handler_duration_seconds",
			Help:        "How long calls of handlers took, supervisory events included; of a batch, the whole of it.",
			ConstLabels: labels,
			Buckets:     buckets,
		}, []string{"consumer"}),
		names: make(map[string]prometheus.Observer),
	}
}

// Observe is middleware: it measures how long each call of a handler takes, also one that panics. Set it as
// ConsumerConfig.Middleware: []pghub.Middleware{collector.Observe}; the first in the list measures the others too.
func (c *Collector) Observe(next pghub.Handler) pghub.Handler {
	return func(ctx context.Context, ev *pghub.Event) {
		begun := time.Now()
		name := ""
		if consumer := pghub.ConsumerFrom(ctx); consumer != nil {
			name = consumer.Name()
		}
		defer func() { c.durations.of(name).Observe(time.Since(begun).Seconds()) }()
		next(ctx, ev)
	}
}

// of returns where the durations of consumers of a name go.
func (d *durations) of(name string) prometheus.Observer {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, known := d.names[name]
	if !known && len(d.names) >= maxNames {
		name = ""
		o, known = d.names[name]
	}
	if !known {
		o = d.histograms.WithLabelValues(name)
		d.names[name] = o
	}
	return o
}
