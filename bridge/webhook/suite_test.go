package webhook_test

import (
	"testing"

	"github.com/pghub/pghub/bridge/sinktest"
	"github.com/pghub/pghub/bridge/webhook"
)

// What every sink has to keep to.
func TestSuite(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Broker {
		r := newReceiver(t)
		return sinktest.Broker{Sink: newSink(t, webhook.Config{URL: r.URL}), Target: "/hooks", Received: func() (bodies []string) {
			for _, g := range r.all() {
				bodies = append(bodies, g.body)
			}
			return bodies
		}}
	})
}
