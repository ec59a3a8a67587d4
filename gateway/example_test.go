package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestServerForExamples(t *testing.T) { pgtest.ServerForExamples(t) }

// A gateway in your own server, and a client that reads Server-Sent Events, as EventSource does in a browser.
func ExampleNew() {
	ctx := context.Background()
	tb, end := pgtest.Example()
	defer end()
	pool := pgtest.Pool(tb, pgtest.Database(tb)) // as pgxpool.New(ctx, os.Getenv("DATABASE_URL"))

	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Start(ctx); err != nil {
		log.Fatal(err)
	}
	gw, err := gateway.New(hub, gateway.Config{
		Topics:  []string{"chat_*", "orders"}, // what clients may listen to; nothing is open by itself
		Publish: []string{"chat_*"},           // and publish
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/pg/", http.StripPrefix("/pg", gw))
	server := httptest.NewServer(mux) // as http.Server

	resp, err := http.Get(server.URL + "/pg/events?topic=orders")
	if err != nil {
		log.Fatal(err)
	}
	// The stream is open, so the subscription is in effect.
	if err := hub.Notify(ctx, "orders", []int64{1001}, map[string]any{"total": 99.5}); err != nil {
		log.Fatal(err)
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if message, isData := strings.CutPrefix(lines.Text(), "data: "); isData {
			fmt.Println(message)
			if strings.Contains(message, "orders") && strings.Contains(message, "total") {
				break
			}
		}
	}
	_ = resp.Body.Close()

	for _, topic := range []string{"chat_1", "orders"} {
		resp, err := http.Post(server.URL+"/pg/notify/"+topic, "application/json", strings.NewReader(`"hello"`))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(topic, resp.StatusCode)
		_ = resp.Body.Close()
	}

	// Clients first, then the server, then the hub.
	if err := gw.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	server.Close()
	if err := hub.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"topic":null,"key":[],"value":{"action":"subscribe","topic":"orders","final":false}}
	// {"topic":"orders","key":[1001],"value":{"total":99.5}}
	// chat_1 204
	// orders 403
}
