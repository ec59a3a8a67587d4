package pghubprom

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// StreamStatusCollector is a prometheus.Collector of what the database knows of a stream, in whichever process its consumers are: how
// far each is behind, and whether somebody works for it. Unlike the other collectors it asks the database, each time that
// Prometheus asks it, by two queries on a connection of the hub's pool, for at most three seconds. Where there is no answer
// pghub_stream_status_up is 0, and the other figures are missing.
//
// All processes give the same answer. So it may be registered in one of them, or in each, so that it does not end with one:
// queries take the max without instance then, as those of alerts.yml do.
type StreamStatusCollector struct {
	stream     *stream.Stream
	up         *prometheus.Desc
	ofStream   []metric[stream.Status]
	ofConsumer []metric[stream.ConsumerStatus]
}

var _ prometheus.Collector = (*StreamStatusCollector)(nil)

// statusTimeout is less than Prometheus waits for a page by default, 10 s: the other figures on it are wanted most when the
// database is away.
const statusTimeout = 3 * time.Second

// NewStreamStatus makes a collector of what the database knows of a stream, to be registered once. hub is the one that the stream
// was opened with: its name is the label hub. Of the configuration, which may be nil, Labels count.
func NewStreamStatus(hub *pghub.Hub, s *stream.Stream, cfg *Config) *StreamStatusCollector {
	if cfg == nil {
		cfg = &Config{}
	}
	d := describer{prefix: "pghub_stream_", labels: withHub(cfg.Labels, hub)}
	return &StreamStatusCollector{
		stream: s, up: d.desc("status_up", "1 if the database has answered."),
		ofStream: statusMetrics(d), ofConsumer: consumerStatusMetrics(d),
	}
}

// Describe is part of prometheus.Collector.
func (c *StreamStatusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.up
	describe(ch, c.ofStream)
	describe(ch, c.ofConsumer)
}

// Collect is part of prometheus.Collector.
func (c *StreamStatusCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	st, err := c.stream.Status(ctx)
	ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, oneIf(err == nil))
	if err != nil {
		return
	}
	collect(ch, c.ofStream, st)
	for _, one := range st.Consumers[:min(len(st.Consumers), maxNames)] {
		collect(ch, c.ofConsumer, one, one.Name)
	}
}

func statusMetrics(d describer) []metric[stream.Status] {
	type st = stream.Status
	return []metric[st]{
		gauge(d, "kept_events", "Events that are kept.", func(s st) float64 { return float64(s.Events) }),
		gauge(d, "size_bytes", "What the stream takes on disk, indexes included.", func(s st) float64 { return float64(s.Bytes) }),
		gauge(d, "has_sequencer", "1 while some process makes the ticks: else what is published cannot be read.", func(s st) float64 { return oneIf(s.Sequencer != "") }),
		gauge(d, "consumers", "Named consumers that the database knows. At most 256 of them have series.", func(s st) float64 { return float64(len(s.Consumers)) }),
	}
}

func consumerStatusMetrics(d describer) []metric[stream.ConsumerStatus] {
	type st = stream.ConsumerStatus
	d.prefix += "consumer_"
	d.variable = []string{"consumer"}
	return []metric[st]{
		gauge(d, "owned", "1 while some process works for the consumer.", func(s st) float64 { return oneIf(s.Owner != "") }),
		gauge(d, "lag_events", "Events of all topics that it has not done.", func(s st) float64 { return float64(s.EventsBehind) }),
		gauge(d, "lag_bytes", "Bytes of these events.", func(s st) float64 { return float64(s.BytesBehind) }),
		gauge(d, "lag_seconds", "How old the oldest event is that it has not done.", func(s st) float64 { return s.Behind.Seconds() }),
		gauge(d, "parked_events", "Events that were put aside after too many attempts, and are still there.", func(s st) float64 { return float64(s.Parked) }),
		gauge(d, "failing_events", "Events that have failed, and are tried again.", func(s st) float64 { return float64(s.Failing) }),
	}
}
