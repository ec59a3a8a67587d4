package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/hub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// Orders of one database's stream are events of another one's, each once.
func Example() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	shop, warehouse := pgtest.Database(tb), pgtest.Database(tb)
	for _, dsn := range []string{shop, warehouse} {
		require.NoError(tb, sql.Install(ctx, pgtest.Conn(tb, dsn)))
	}

	source, err := pghub.New(pghub.Config{Pool: pgtest.Pool(tb, shop)})
	require.NoError(tb, err)
	defer func() { _ = source.Stop(ctx) }()
	s, err := stream.Open(ctx, source, stream.Config{})
	require.NoError(tb, err)
	require.NoError(tb, source.Start(ctx))

	target := pgtest.Pool(tb, warehouse)
	arrived := make(chan string, 10)
	listener, err := pghub.New(pghub.Config{Pool: target})
	require.NoError(tb, err)
	defer func() { _ = listener.Stop(ctx) }()
	_, err = listener.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			arrived <- fmt.Sprint(ev.Topic, ev.Key, string(ev.Value))
		}
	}, &pghub.ConsumerConfig{Topics: []string{"shop.orders"}})
	require.NoError(tb, err)
	require.NoError(tb, listener.Start(ctx))

	sink, err := hub.New(hub.Config{Pool: target, Name: "shop"})
	require.NoError(tb, err)
	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{{
		Name: "orders", Source: bridge.FromStream(s, nil), Topics: []string{"orders"}, Sink: sink, Target: "shop.{topic}",
	}}})
	require.NoError(tb, err)
	require.NoError(tb, b.Start(ctx))
	defer func() { _ = b.Stop(ctx) }()

	require.NoError(tb, s.Publish(ctx, "orders", []int64{7}, map[string]string{"state": "paid"}))
	fmt.Println(<-arrived)
	// Output: shop.orders[7]{"state":"paid"}
}
