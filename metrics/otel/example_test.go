package pghubotel_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	pghubotel "github.com/pghub/pghub/metrics/otel"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// An event carries the trace of who has published it, and the handler's span has a link to it. What this process has published
// itself is skipped.
func ExampleTracing() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	hub, err := pghub.New(pghub.Config{Pool: pool, Codec: pghubotel.Codec{}})
	require.NoError(tb, err)

	provider := trace.NewTracerProvider() // or leave Provider out, for the global one
	here := pghubotel.NewTracing(&pghubotel.TracingConfig{Provider: provider, Origin: "process 1"})
	elsewhere := pghubotel.NewTracing(&pghubotel.TracingConfig{Provider: provider, Origin: "process 2"})

	_, err = hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			fmt.Println(ev.Topic, ev.Key, string(ev.Value))
		}
	}, &pghub.ConsumerConfig{
		Topics:     []string{"prices"},
		Middleware: []pghub.Middleware{here.SkipOwn, here.Handle},
	})
	require.NoError(tb, err)
	require.NoError(tb, hub.Start(ctx))
	require.NoError(tb, here.Notify(ctx, hub, "prices", []int64{1}, 10))
	require.NoError(tb, elsewhere.Notify(ctx, hub, "prices", []int64{2}, 20))
	require.NoError(tb, hub.Stop(ctx))
	// Output: prices [2] 20
}

// The figures of a hub, of its stream, and of what the database knows of the stream. A cache has NewCacheMetrics.
func ExampleNewStreamMetrics() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	require.NoError(tb, sql.Install(ctx, pool))
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	require.NoError(tb, err)
	s, err := stream.Open(ctx, hub, stream.Config{})
	require.NoError(tb, err)

	reader := metric.NewManualReader() // as one that exports
	cfg := &pghubotel.MetricsConfig{Provider: metric.NewMeterProvider(metric.WithReader(reader))}
	_, err = pghubotel.NewMetrics(hub, cfg)
	require.NoError(tb, err)
	_, err = pghubotel.NewStreamMetrics(hub, s, cfg)
	require.NoError(tb, err)
	_, err = pghubotel.NewStreamStatusMetrics(hub, s, cfg) // asks the database
	require.NoError(tb, err)

	require.NoError(tb, s.Publish(ctx, "orders", []int64{7}, nil))
	var all metricdata.ResourceMetrics
	require.NoError(tb, reader.Collect(ctx, &all))
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "pghub.stream.published" {
			fmt.Println(m.Name, m.Data.(metricdata.Sum[float64]).DataPoints[0].Value)
		}
	}
	require.NoError(tb, hub.Stop(ctx))
	// Output: pghub.stream.published 1
}
