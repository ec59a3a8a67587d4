package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Collector returns the gateway's figures for a Prometheus registry of your own. GET /metrics serves the same, and
// those of Go and of the process.
func (g *Gateway) Collector() prometheus.Collector { return collector{g} }

func (g *Gateway) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	serve := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.authorize(r, Access{Action: ActionInspect}); err != nil {
			g.refuse(w, r, err)
			return
		}
		serve.ServeHTTP(w, r)
	})
}

type collector struct{ g *Gateway }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pghub_gateway_"+name, help, labels, nil)
}

var (
	descListening  = describe("listening", "1 while the hub listens to the database.")
	descClients    = describe("clients", "Clients connected.", "transport")
	descTopics     = describe("topics", "Different topics of these clients.")
	descPending    = describe("pending_messages", "Messages waiting for clients.")
	descExcess     = describe("excess_bytes", "Bytes that wait beyond MaxPending, of all clients together.")
	descAccepted   = describe("clients_accepted_total", "Clients that were admitted.")
	descReceived   = describe("received_total", "Notifications that the hub received from the database.")
	descReconnects = describe("reconnects_total", "Connections that the hub made again.")
	descSent       = describe("sent_total", "Messages written to clients.")
	descDropped    = describe("dropped_total", "Events dropped for slow clients.")
	descPublished  = describe("published_total", "Events published by clients.")
	descReplays    = describe("replays", "Replays under way; a client may have several.")
	descReplayed   = describe("replayed_total", "Events that clients got from the past.")
	descClosed     = describe("closed_total", "Clients closed by the gateway.", "reason")
	descRefused    = describe("refused_total", "Requests and operations refused.", "error")
)

// Describe is part of prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descListening, descClients, descTopics, descPending, descExcess, descAccepted, descReceived, descReconnects, descSent,
		descDropped, descPublished, descReplays, descReplayed, descClosed, descRefused,
	} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	st := c.g.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	listening := 0
	if st.Listening {
		listening = 1
	}
	gauge(descListening, listening)
	gauge(descClients, st.WebSockets, "websocket")
	gauge(descClients, st.Streams, "sse")
	gauge(descTopics, st.Topics)
	gauge(descPending, st.Pending)
	gauge(descExcess, st.Excess)
	counter(descAccepted, st.Accepted)
	counter(descReceived, st.Received)
	counter(descReconnects, st.Reconnects)
	counter(descSent, st.Sent)
	counter(descDropped, st.Dropped)
	counter(descPublished, st.Published)
	gauge(descReplays, int(st.Replays))
	counter(descReplayed, st.Replayed)
	for reason, n := range st.Closed {
		counter(descClosed, n, reason)
	}
	for name, n := range st.Refused {
		counter(descRefused, n, name)
	}
}
