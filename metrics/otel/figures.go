package pghubotel

import (
	"time"

	"github.com/pghub/pghub"
)

func hubFigures(d *definer) []figure[pghub.Stats] {
	type st = pghub.Stats
	return []figure[st]{
		flag(d, "pghub.listening", "1 while everything subscribed to is listened to, but for topics that the server refuses.", func(s st) bool { return s.State == pghub.StateListening }),
		counter(d, "pghub.connect_attempts", "{attempt}", "Attempts to connect the listener.", func(s st) uint64 { return s.Attempts }),
		counter(d, "pghub.reconnects", "{connection}", "Listener connections that came to listen after the first: each is a gap.", func(s st) uint64 { return s.Reconnects }),
		gauge(d, "pghub.consumers", "{consumer}", "Consumers that have not had their last event.", func(s st) float64 { return float64(s.Consumers) }),
		gauge(d, "pghub.topics", "{topic}", "Topics that somebody is subscribed to.", func(s st) float64 { return float64(s.Topics) }),
		gauge(d, "pghub.topics.listening", "{topic}", "Of these topics, those that the server has acknowledged.", func(s st) float64 { return float64(s.Listening) }),
		counter(d, "pghub.received", "{event}", "Notifications that arrived.", func(s st) uint64 { return s.Received }),
		counter(d, "pghub.unwanted", "{event}", "Of these, for nobody any more.", func(s st) uint64 { return s.Unwanted }),
		counter(d, "pghub.undecodable", "{event}", "Notifications that a codec refused.", func(s st) uint64 { return s.Undecodable }),
		counter(d, "pghub.published", "{event}", "Events that Notify and NotifyPayload have committed.", func(s st) uint64 { return s.Published }),
		counter(d, "pghub.publish.batches", "{statement}", "Statements that took.", func(s st) uint64 { return s.PublishBatches }),
		counter(d, "pghub.publish.errors", "{event}", "Events whose statement failed, or whose outcome is unknown.", func(s st) uint64 { return s.PublishErrors }),
	}
}

func consumerFigures(d *definer) []figure[pghub.ConsumerStats] {
	type st = pghub.ConsumerStats
	return []figure[st]{
		counter(d, "pghub.consumer.delivered", "{event}", "Events and advisories that handlers have returned from.", func(s st) uint64 { return s.Delivered }),
		gauge(d, "pghub.consumer.queued", "{event}", "Events that wait for handlers.", func(s st) float64 { return float64(s.Queued) }),
		gauge(d, "pghub.consumer.oldest_event.age", "s", "How long ago the oldest event arrived that a handler has not returned from; 0: there is none.", func(s st) float64 {
			if s.Oldest.IsZero() {
				return 0
			}
			return time.Since(s.Oldest).Seconds()
		}),
		counter(d, "pghub.consumer.dropped", "{event}", "Events dropped by full queues.", func(s st) uint64 { return s.Dropped }),
		counter(d, "pghub.consumer.gaps", "{gap}", "Places of the stream where events may be missing.", func(s st) uint64 { return s.Gaps }),
		counter(d, "pghub.consumer.lags", "{gap}", "Of these gaps, those that a full queue caused.", func(s st) uint64 { return s.Lags }),
		counter(d, "pghub.consumer.resyncs", "{call}", "Calls of Resync that succeeded.", func(s st) uint64 { return s.Resyncs }),
		counter(d, "pghub.consumer.resync.errors", "{call}", "Calls of Resync that failed.", func(s st) uint64 { return s.ResyncErrors }),
		counter(d, "pghub.consumer.batches", "{call}", "Calls of handlers of batches with events.", func(s st) uint64 { return s.Batches }),
		counter(d, "pghub.consumer.panics", "{panic}", "Panics of handlers and of Resync.", func(s st) uint64 { return s.Panics }),
	}
}
