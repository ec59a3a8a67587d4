package pghubprom

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub"
)

// metric is a metric of figures of type T.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

// describer makes descriptions with what they have in common.
type describer struct {
	prefix   string
	labels   prometheus.Labels // the same for all
	variable []string
}

func (d describer) desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(d.prefix+name, help, d.variable, d.labels)
}

func gauge[T any](d describer, name, help string, value func(T) float64) metric[T] {
	return metric[T]{d.desc(name, help), prometheus.GaugeValue, value}
}

func counter[T any](d describer, name, help string, value func(T) uint64) metric[T] {
	return metric[T]{d.desc(name, help), prometheus.CounterValue, func(t T) float64 { return float64(value(t)) }}
}

func describe[T any](ch chan<- *prometheus.Desc, metrics []metric[T]) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

func collect[T any](ch chan<- prometheus.Metric, metrics []metric[T], figures T, labels ...string) {
	for _, m := range metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(figures), labels...)
	}
}

// withHub adds the label that tells hubs apart.
func withHub(labels prometheus.Labels, hub *pghub.Hub) prometheus.Labels {
	all := prometheus.Labels{"hub": hub.Name()}
	maps.Copy(all, labels)
	return all
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
