package pghubprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
)

// Config makes a [Collector]; nil means its zero value.
type Config struct {
	// Labels are on every metric, beside hub and consumer, which they must not contain.
	Labels prometheus.Labels

	// Buckets are the upper bounds of pghub_handler_duration_seconds, in seconds, in ascending order. nil: fourteen from
	// 0.1 ms to 30 s.
	Buckets []float64
}

// Collector is a prometheus.Collector of a hub's figures. All methods may be called from several goroutines at once, in every
// state of the hub.
type Collector struct {
	hub       *pghub.Hub
	durations *durations

	ofHub      []metric[pghub.Stats]
	ofConsumer []metric[pghub.ConsumerStats]
}

var _ prometheus.Collector = (*Collector)(nil)

// New makes a collector of a hub, to be registered once. The configuration may be nil. It panics on labels and buckets that
// Prometheus does not take.
func New(hub *pghub.Hub, cfg *Config) *Collector {
	if cfg == nil {
		cfg = &Config{}
	}
	d := describer{prefix: "pghub_", labels: withHub(cfg.Labels, hub)}
	return &Collector{hub: hub, durations: newDurations(d.labels, cfg.Buckets), ofHub: hubMetrics(d), ofConsumer: consumerMetrics(d)}
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, c.ofHub)
	describe(ch, c.ofConsumer)
	c.durations.histograms.Describe(ch)
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	collect(ch, c.ofHub, c.hub.Stats())
	for _, st := range c.hub.StatsByName() {
		collect(ch, c.ofConsumer, st, st.Name)
	}
	c.durations.histograms.Collect(ch)
}

func hubMetrics(d describer) []metric[pghub.Stats] {
	type st = pghub.Stats
	return []metric[st]{
		gauge(d, "listening", "1 while everything subscribed to is listened to, but for topics that the server refuses.",
			func(s st) float64 { return oneIf(s.State == pghub.StateListening) }),
		counter(d, "connect_attempts_total", "Attempts to connect the listener.", func(s st) uint64 { return s.Attempts }),
		counter(d, "reconnects_total", "Listener connections that came to listen after the first: each is a gap.", func(s st) uint64 { return s.Reconnects }),
		gauge(d, "consumers", "Consumers that have not had their last event.", func(s st) float64 { return float64(s.Consumers) }),
		gauge(d, "topics", "Topics that somebody is subscribed to.", func(s st) float64 { return float64(s.Topics) }),
		gauge(d, "topics_listening", "Of these topics, those that the server has acknowledged.", func(s st) float64 { return float64(s.Listening) }),
		counter(d, "received_total", "Notifications that arrived.", func(s st) uint64 { return s.Received }),
		counter(d, "unwanted_total", "Of these, for nobody any more.", func(s st) uint64 { return s.Unwanted }),
		counter(d, "undecodable_total", "Notifications that a codec refused.", func(s st) uint64 { return s.Undecodable }),
		counter(d, "published_total", "Events that Notify and NotifyPayload have committed.", func(s st) uint64 { return s.Published }),
		counter(d, "publish_batches_total", "Statements that took.", func(s st) uint64 { return s.PublishBatches }),
		counter(d, "publish_errors_total", "Events whose statement failed, or whose outcome is unknown.", func(s st) uint64 { return s.PublishErrors }),
	}
}

func consumerMetrics(d describer) []metric[pghub.ConsumerStats] {
	type st = pghub.ConsumerStats
	d.prefix += "consumer_"
	d.variable = []string{"consumer"}
	return []metric[st]{
		counter(d, "delivered_total", "Events and advisories that handlers have returned from.", func(s st) uint64 { return s.Delivered }),
		gauge(d, "queued_events", "Events that wait for handlers.", func(s st) float64 { return float64(s.Queued) }),
		gauge(d, "oldest_event_age_seconds", "How long ago the oldest event arrived that a handler has not returned from; 0: there is none.",
			func(s st) float64 { return age(s.Oldest) }),
		counter(d, "dropped_total", "Events dropped by full queues.", func(s st) uint64 { return s.Dropped }),
		counter(d, "gaps_total", "Places of the stream where events may be missing.", func(s st) uint64 { return s.Gaps }),
		counter(d, "lags_total", "Of these gaps, those that a full queue caused.", func(s st) uint64 { return s.Lags }),
		counter(d, "resyncs_total", "Calls of Resync that succeeded.", func(s st) uint64 { return s.Resyncs }),
		counter(d, "resync_errors_total", "Calls of Resync that failed.", func(s st) uint64 { return s.ResyncErrors }),
		counter(d, "batches_total", "Calls of handlers of batches with events.", func(s st) uint64 { return s.Batches }),
		counter(d, "panics_total", "Panics of handlers and of Resync.", func(s st) uint64 { return s.Panics }),
	}
}

func age(since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return time.Since(since).Seconds()
}
