// Package metrics has the figures of bridges for Prometheus.
//
//	registry.MustRegister(metrics.New(b))
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pghub/pghub/bridge"
)

// New returns a collector of a bridge's figures, with the label route. A process with several bridges gives their routes different names.
func New(b *bridge.Bridge) prometheus.Collector { return collector{b} }

type collector struct{ b *bridge.Bridge }

// figure is one of a route's.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*bridge.RouteStats) float64
}

func counter(name, help string, value func(*bridge.RouteStats) uint64) figure {
	return figure{describe(name+"_total", help), prometheus.CounterValue, func(st *bridge.RouteStats) float64 { return float64(value(st)) }}
}

func gauge(name, help string, value func(*bridge.RouteStats) float64) figure {
	return figure{describe(name, help), prometheus.GaugeValue, value}
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("pghub_bridge_"+name, help, []string{"route"}, nil)
}

var figures = []figure{
	counter("sent", "Messages handed to the sink, each time.", func(st *bridge.RouteStats) uint64 { return st.Sent }),
	counter("confirmed", "Messages that the broker has taken.", func(st *bridge.RouteStats) uint64 { return st.Confirmed }),
	counter("retried", "Attempts of messages that failed and are sent again.", func(st *bridge.RouteStats) uint64 { return st.Retried }),
	counter("refused", "Messages that were refused for good.", func(st *bridge.RouteStats) uint64 { return st.Refused }),
	counter("parked", "Refused messages that the source has put aside.", func(st *bridge.RouteStats) uint64 { return st.Parked }),
	counter("lost", "Events of a source that keeps none, which were in hand when the bridge stopped.", func(st *bridge.RouteStats) uint64 { return st.Lost }),
	counter("gaps", "Places where events may be missing.", func(st *bridge.RouteStats) uint64 { return st.Gaps }),
	gauge("in_hand", "Events that are not settled.", func(st *bridge.RouteStats) float64 { return float64(st.InHand) }),
	gauge("lag_seconds", "How old the oldest event is that is not settled; 0: there is none.", func(st *bridge.RouteStats) float64 { return st.Lag.Seconds() }),
	gauge("failing", "1 while the last attempt has failed.", func(st *bridge.RouteStats) float64 {
		if st.Failing {
			return 1
		}
		return 0
	}),
}

// Describe is part of prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range figures {
		ch <- f.desc
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	st := c.b.Stats()
	for i := range st.Routes {
		for _, f := range figures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&st.Routes[i]), st.Routes[i].Name)
		}
	}
}
