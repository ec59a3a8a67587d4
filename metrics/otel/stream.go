package pghubotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// NewStreamMetrics registers the instruments of a stream's figures in this process, until Unregister is called. hub is the one that
// the stream was opened with. The attributes are pghub.hub and pghub.consumer, the name of a durable consumer. The configuration may
// be nil. The error is the meter's.
func NewStreamMetrics(hub *pghub.Hub, s *stream.Stream, cfg *MetricsConfig) (metric.Registration, error) {
	d := newDefiner(cfg)
	ofStream, ofConsumer := streamFigures(d), durableFigures(d)
	of := metric.WithAttributeSet(hubAttributes(hub))
	return d.register(func(_ context.Context, o metric.Observer) error {
		st := s.Stats()
		observe(o, ofStream, st, of)
		for name, one := range st.DurablesByName() {
			observe(o, ofConsumer, one, of, metric.WithAttributes(consumerAttribute(name)))
		}
		return nil
	})
}

// statusTimeout bounds the queries of a reading: the other figures are wanted most when the database is away.
const statusTimeout = 3 * time.Second

// NewStreamStatusMetrics registers the instruments of what the database knows of a stream, in whichever process its consumers are: how far
// each is behind, and whether somebody works for it. Unlike the others they ask the database, at each reading, by two queries on a
// connection of the hub's pool, for at most three seconds. Where there is no answer pghub.stream.status.up is 0, and the other
// figures are missing. All processes give the same answer. At most 256 consumers have attributes. The error is the meter's.
func NewStreamStatusMetrics(hub *pghub.Hub, s *stream.Stream, cfg *MetricsConfig) (metric.Registration, error) {
	d := newDefiner(cfg)
	up := flag(d, "pghub.stream.status.up", "1 if the database has answered.", func(err error) bool { return err == nil })
	ofStream, ofConsumer := statusFigures(d), consumerStatusFigures(d)
	of := metric.WithAttributeSet(hubAttributes(hub))
	return d.register(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		st, err := s.Status(ctx)
		observe(o, []figure[error]{up}, err, of)
		if err != nil {
			return nil // it is a figure
		}
		observe(o, ofStream, st, of)
		for _, one := range st.Consumers[:min(len(st.Consumers), maxNames)] {
			observe(o, ofConsumer, one, of, metric.WithAttributes(consumerAttribute(one.Name)))
		}
		return nil
	})
}

const maxNames = 256

func streamFigures(d *definer) []figure[stream.Stats] {
	type st = stream.Stats
	return []figure[st]{
		flag(d, "pghub.stream.connected", "1 while the stream has its own connection.", func(s st) bool { return s.PID != 0 }),
		flag(d, "pghub.stream.sequencer", "1 in the process that makes the ticks.", func(s st) bool { return s.Sequencer }),
		counter(d, "pghub.stream.connections.lost", "{connection}", "How often the stream's own connection was lost, or could not be made.", func(s st) uint64 { return s.Lost }),
		counter(d, "pghub.stream.ticks", "{tick}", "Ticks made by this process.", func(s st) uint64 { return s.Ticks }),
		counter(d, "pghub.stream.sleeps", "{sleep}", "Times that the sequencer slept until a writer rang.", func(s st) uint64 { return s.Sleeps }),
		counter(d, "pghub.stream.published", "{event}", "Events that Publish has committed.", func(s st) uint64 { return s.Published }),
		counter(d, "pghub.stream.publish.batches", "{statement}", "Statements that took.", func(s st) uint64 { return s.PublishBatches }),
		counter(d, "pghub.stream.publish.errors", "{event}", "Events whose statement failed, or whose outcome is unknown.", func(s st) uint64 { return s.PublishErrors }),
		counter(d, "pghub.stream.halted", "{consumer}", "Durable consumers of this process that have ended in front of an event that is poison.", func(s st) uint64 { return s.Halted }),
	}
}

func durableFigures(d *definer) []figure[stream.DurableStats] {
	type st = stream.DurableStats
	return []figure[st]{
		flag(d, "pghub.stream.consumer.working", "1 in the process that works for the durable consumer.", func(s st) bool { return s.Working }),
		gauge(d, "pghub.stream.consumer.in_hand", "{event}", "Events that are read and not acknowledged.", func(s st) float64 { return float64(s.InHand) }),
		counter(d, "pghub.stream.consumer.delivered", "{event}", "Events that the handler acknowledged.", func(s st) uint64 { return s.Delivered }),
		counter(d, "pghub.stream.consumer.failed", "{attempt}", "Attempts that failed.", func(s st) uint64 { return s.Failed }),
		counter(d, "pghub.stream.consumer.parked", "{event}", "Events that were put aside after too many attempts.", func(s st) uint64 { return s.Parked }),
		counter(d, "pghub.stream.consumer.resyncs", "{gap}", "Gaps.", func(s st) uint64 { return s.Resyncs }),
	}
}

func statusFigures(d *definer) []figure[stream.Status] {
	type st = stream.Status
	return []figure[st]{
		gauge(d, "pghub.stream.kept", "{event}", "Events that are kept.", func(s st) float64 { return float64(s.Events) }),
		gauge(d, "pghub.stream.size", "By", "What the stream takes on disk, indexes included.", func(s st) float64 { return float64(s.Bytes) }),
		flag(d, "pghub.stream.has_sequencer", "1 while some process makes the ticks: else what is published cannot be read.", func(s st) bool { return s.Sequencer != "" }),
		gauge(d, "pghub.stream.consumers", "{consumer}", "Named consumers that the database knows.", func(s st) float64 { return float64(len(s.Consumers)) }),
	}
}

func consumerStatusFigures(d *definer) []figure[stream.ConsumerStatus] {
	type st = stream.ConsumerStatus
	return []figure[st]{
		flag(d, "pghub.stream.consumer.owned", "1 while some process works for the consumer.", func(s st) bool { return s.Owner != "" }),
		gauge(d, "pghub.stream.consumer.lag", "{event}", "Events of all topics that it has not done.", func(s st) float64 { return float64(s.EventsBehind) }),
		gauge(d, "pghub.stream.consumer.lag.size", "By", "Bytes of these events.", func(s st) float64 { return float64(s.BytesBehind) }),
		gauge(d, "pghub.stream.consumer.lag.time", "s", "How old the oldest event is that it has not done.", func(s st) float64 { return s.Behind.Seconds() }),
		gauge(d, "pghub.stream.consumer.parked.now", "{event}", "Events that were put aside, and are still there.", func(s st) float64 { return float64(s.Parked) }),
		gauge(d, "pghub.stream.consumer.failing", "{event}", "Events that have failed, and are tried again.", func(s st) float64 { return float64(s.Failing) }),
	}
}
