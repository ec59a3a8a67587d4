// Package pghubprom brings the figures of hubs, of their consumers, of streams and of caches to Prometheus.
//
// Make a [Collector] for each hub and register it. Each hub needs a Config.Name of its own, which becomes the label hub: a
// registry refuses two collectors of the same name. Figures are taken when Prometheus asks, and cost nothing else. How long
// handlers take is measured by [Collector.Observe], middleware for those consumers that have it.
//
// Figures of consumers have the label consumer, which is ConsumerConfig.Name. Consumers of the same name are added up, and so
// are those without one, under an empty label; those that are gone go on counting, so that counters never fall. There are at
// most 256 names: what comes after these is counted under the empty label. Topics and keys are never labels.
//
// [NewStream], [NewStreamStatus] and [NewCache] make collectors of streams and of caches, to be registered beside the hub's.
//
// What each metric means, alert rules and a dashboard are described in docs/metrics.md of the repository; dashboard.json and
// alerts.yml are beside this file.
package pghubprom
