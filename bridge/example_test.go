package bridge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/webhook"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// What is notified in PostgreSQL is a webhook, as a CloudEvent.
func Example() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(tb, pgtest.Database(tb))}) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	require.NoError(tb, err)
	defer func() { _ = hub.Stop(ctx) }()
	require.NoError(tb, hub.Start(ctx))

	arrived := make(chan string)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- fmt.Sprintln(r.URL.Path, r.Header.Get("ce-type"), r.Header.Get("ce-subject"), string(body))
	}))
	defer receiver.Close()

	sink, err := webhook.New(webhook.Config{URL: receiver.URL})
	require.NoError(tb, err)
	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{{
		Name:       "orders",
		Source:     bridge.FromHub(hub, nil),
		Topics:     []string{"orders"},
		Sink:       sink,
		Target:     "/{topic}/{value.state|unknown}",
		Format:     bridge.CloudEventsBinary,
		CloudEvent: bridge.CloudEvent{Type: "com.example.{topic}"},
	}}})
	require.NoError(tb, err)
	require.NoError(tb, b.Start(ctx))
	defer func() { _ = b.Stop(ctx) }()

	require.NoError(tb, hub.Notify(ctx, "orders", []int64{7}, map[string]string{"state": "paid"}))
	fmt.Print(<-arrived)
	// Output: /orders/paid com.example.orders 7 {"state":"paid"}
}

// logSink is a sink of one's own: it needs no more than this.
type logSink struct{}

func (logSink) Send(_ context.Context, batch []*bridge.Message) error {
	results := make(bridge.Errors, len(batch))
	for i, m := range batch {
		if len(m.Body) > 1000 {
			results[i] = bridge.Refuse(fmt.Errorf("%d bytes are too many", len(m.Body)))
			continue
		}
		fmt.Println(m.Target, string(m.Body))
	}
	return results.OrNil()
}

func (logSink) Close(context.Context) error { return nil }

// A sink says of each message what became of it.
func ExampleSink() {
	err := logSink{}.Send(context.Background(), []*bridge.Message{
		{Target: "orders.paid", Body: []byte(`{"order":7}`)},
		{Target: "orders.paid", Body: make([]byte, 2000)},
	})
	fmt.Println(err, bridge.IsRefused(err))
	// Output:
	// orders.paid {"order":7}
	// 2000 bytes are too many true
}
