package pghubprom_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	pghubprom "github.com/pghub/pghub/metrics/prometheus"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// The figures of a hub in a registry, and how long the handlers of a consumer take.
func ExampleNew() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	require.NoError(tb, err)

	metrics := pghubprom.New(hub, nil)
	registry := prometheus.NewRegistry() // or prometheus.MustRegister
	registry.MustRegister(metrics)

	_, err = hub.Consumer(ctx, func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
		Name:       "orders",
		Topics:     []string{"orders"},
		Middleware: []pghub.Middleware{metrics.Observe},
	})
	require.NoError(tb, err)
	require.NoError(tb, hub.Start(ctx))
	require.NoError(tb, hub.Notify(ctx, "orders", []int64{7}, nil))
	require.NoError(tb, hub.Stop(ctx))

	families, err := registry.Gather() // what GET /metrics serves: promhttp.HandlerFor(registry, …)
	require.NoError(tb, err)
	for _, family := range families {
		switch family.GetName() {
		case "pghub_received_total", "pghub_published_total":
			fmt.Println(family.GetName(), family.GetMetric()[0].GetCounter().GetValue())
		case "pghub_handler_duration_seconds": // connect, subscribe, the event, stop
			fmt.Println(family.GetName(), family.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	// Output:
	// pghub_handler_duration_seconds 4
	// pghub_published_total 1
	// pghub_received_total 1
}
