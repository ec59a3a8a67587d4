package pghubprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// StreamCollector is a prometheus.Collector of a stream's figures in this process. What the database knows of all processes has a
// [StreamStatusCollector].
type StreamCollector struct {
	stream     *stream.Stream
	ofStream   []metric[stream.Stats]
	ofConsumer []metric[stream.DurableStats]
}

var _ prometheus.Collector = (*StreamCollector)(nil)

// NewStream makes a collector of a stream, to be registered once. hub is the one that the stream was opened with: its name is
// the label hub. Of the configuration, which may be nil, Labels count.
func NewStream(hub *pghub.Hub, s *stream.Stream, cfg *Config) *StreamCollector {
	if cfg == nil {
		cfg = &Config{}
	}
	d := describer{prefix: "pghub_stream_", labels: withHub(cfg.Labels, hub)}
	return &StreamCollector{stream: s, ofStream: streamMetrics(d), ofConsumer: durableMetrics(d)}
}

// Describe is part of prometheus.Collector.
func (c *StreamCollector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, c.ofStream)
	describe(ch, c.ofConsumer)
}

// Collect is part of prometheus.Collector.
func (c *StreamCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.stream.Stats()
	collect(ch, c.ofStream, st)
	for _, d := range st.DurablesByName() {
		collect(ch, c.ofConsumer, d, d.Name)
	}
}

func streamMetrics(d describer) []metric[stream.Stats] {
	type st = stream.Stats
	return []metric[st]{
		gauge(d, "connected", "1 while the stream has its own connection.", func(s st) float64 { return oneIf(s.PID != 0) }),
		gauge(d, "sequencer", "1 in the process that makes the ticks.", func(s st) float64 { return oneIf(s.Sequencer) }),
		counter(d, "connections_lost_total", "How often the stream's own connection was lost, or could not be made.", func(s st) uint64 { return s.Lost }),
		counter(d, "ticks_total", "Ticks made by this process.", func(s st) uint64 { return s.Ticks }),
		counter(d, "sleeps_total", "Times that the sequencer slept until a writer rang.", func(s st) uint64 { return s.Sleeps }),
		counter(d, "published_total", "Events that Publish has committed.", func(s st) uint64 { return s.Published }),
		counter(d, "publish_batches_total", "Statements that took.", func(s st) uint64 { return s.PublishBatches }),
		counter(d, "publish_errors_total", "Events whose statement failed, or whose outcome is unknown.", func(s st) uint64 { return s.PublishErrors }),
		counter(d, "halted_total", "Durable consumers of this process that have ended in front of an event that is poison.", func(s st) uint64 { return s.Halted }),
	}
}

func durableMetrics(d describer) []metric[stream.DurableStats] {
	type st = stream.DurableStats
	d.prefix += "consumer_"
	d.variable = []string{"consumer"}
	return []metric[st]{
		gauge(d, "working", "1 in the process that works for the durable consumer.", func(s st) float64 { return oneIf(s.Working) }),
		gauge(d, "in_hand_events", "Events that are read and not acknowledged.", func(s st) float64 { return float64(s.InHand) }),
		counter(d, "delivered_total", "Events that the handler acknowledged.", func(s st) uint64 { return s.Delivered }),
		counter(d, "failed_total", "Attempts that failed.", func(s st) uint64 { return s.Failed }),
		counter(d, "parked_total", "Events that were put aside after too many attempts.", func(s st) uint64 { return s.Parked }),
		counter(d, "resyncs_total", "Gaps.", func(s st) uint64 { return s.Resyncs }),
	}
}
