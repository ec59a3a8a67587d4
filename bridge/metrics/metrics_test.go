package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/metrics"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// source delivers three events and a gap, once.
type source struct{ settled chan struct{} }

func (s source) Run(ctx context.Context, _ bridge.Want, deliver bridge.Deliver, ready func()) error {
	ready()
	var items []bridge.Item
	for n := range 3 {
		items = append(items, bridge.Item{Event: &pghub.Event{Topic: "t", Value: fmt.Append(nil, n)}})
	}
	items = append(items, bridge.Item{Gap: &bridge.Gap{Reason: "why"}})
	_, err := deliver(context.WithoutCancel(ctx), items)
	close(s.settled)
	<-ctx.Done()
	return err
}

// sink takes the first message, refuses the second, and takes the third when it comes again.
type sink struct{ calls int }

func (s *sink) Send(_ context.Context, batch []*bridge.Message) error {
	if s.calls++; s.calls == 1 {
		return bridge.Errors{nil, bridge.Refuse(errors.New("no")), errors.New("not now")}
	}
	return nil
}

func (s *sink) Close(context.Context) error { return nil }

func TestCollector(t *testing.T) {
	pgtest.CheckLeaks(t)
	src := source{make(chan struct{})}
	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{{Name: "r", Source: src, Sink: &sink{}, RetryMin: 1, RetryMax: time.Microsecond}}})
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.Background())) })
	<-src.settled
	var want strings.Builder
	for _, one := range []string{
		"confirmed_total counter 2 Messages that the broker has taken.",
		"failing gauge 0 1 while the last attempt has failed.",
		"gaps_total counter 1 Places where events may be missing.",
		"in_hand gauge 0 Events that are not settled.",
		"lag_seconds gauge 0 How old the oldest event is that is not settled; 0: there is none.",
		"lost_total counter 0 Events of a source that keeps none, which were in hand when the bridge stopped.",
		"parked_total counter 0 Refused messages that the source has put aside.",
		"refused_total counter 1 Messages that were refused for good.",
		"retried_total counter 1 Attempts of messages that failed and are sent again.",
		"sent_total counter 4 Messages handed to the sink, each time.",
	} {
		part := strings.SplitN(one, " ", 4)
		name := "pghub_bridge_" + part[0]
		fmt.Fprintf(&want, "# HELP %s %s\n# TYPE %s %s\n%s{route=\"r\"} %s\n", name, part[3], name, part[1], name, part[2])
	}
	require.NoError(t, testutil.CollectAndCompare(metrics.New(b), strings.NewReader(want.String())))
}
