package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/nodetest"
	"github.com/pghub/pghub/internal/pgtest"
	pghubsql "github.com/pghub/pghub/sql"
)

// said is a line that the event streams print.
type said struct {
	Client      int
	Type, State string
	Value       json.RawMessage
}

// eventSources follows an address in Node with as many event streams, and returns what they say.
func eventSources(t *testing.T, url string, number int) (next func() said) {
	t.Helper()
	lines := nodetest.Lines(t, nodetest.Command(t, "../../gateway/client/eventsources.mjs", url, strconv.Itoa(number)))
	return func() (l said) {
		t.Helper()
		text, more := lines()
		require.True(t, more, "it has ended")
		require.NoError(t, json.Unmarshal(text, &l))
		return l
	}
}

// Event streams, fifty of them or as many as PGHUB_EVENT_SOURCES says, through a restart of the program at its address, which nobody
// serves for a while: all come back, nothing is missed, and nothing comes twice.
func TestServeRestartsUnderEventSources(t *testing.T) {
	number := 50
	if text := os.Getenv("PGHUB_EVENT_SOURCES"); text != "" {
		var err error
		number, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	require.NoError(t, pghubsql.Install(t.Context(), pool))
	address := pgtest.FixedAddress(t)
	serve := func() *program {
		p := start(t, []string{"DATABASE_URL=" + dsn}, "serve", "--listen", address, "--topics", "*", "--stream", "orders", "--max-clients-per-address", "-1")
		ready(t, http.DefaultClient, "http://"+address)
		return p
	}
	first := serve()
	next := eventSources(t, "http://"+address+"/events?topic=orders", number)
	for begun := map[int]bool{}; len(begun) < number; {
		if l := next(); l.State == "subscribe" {
			begun[l.Client] = true
		}
	}

	sent := 0
	publish := func(n int) {
		for range n {
			_, err := pool.Exec(t.Context(), "SELECT pghub.publish('orders', value => to_json($1::int))", sent)
			if err != nil {
				t.Error(err)
				return
			}
			sent++
		}
	}
	publish(20)
	published := make(chan struct{})
	go func() {
		defer close(published)
		publish(20) // while it ends
	}()
	first.end(bothSignals[1])
	<-published
	require.NoError(t, first.err)
	_, err := net.Dial("tcp", address)
	require.Error(t, err)
	publish(20) // while nobody serves
	serve()
	publish(20)
	_, err = pool.Exec(t.Context(), `SELECT pghub.publish('orders', value => '"end"')`)
	require.NoError(t, err)

	got := make([][]string, number)
	for ended := 0; ended < number; {
		switch l := next(); {
		case l.Type == "event" && string(l.Value) == `"end"`:
			ended++
		case l.Type == "event":
			got[l.Client] = append(got[l.Client], string(l.Value))
		default:
			require.NotEqual(t, "lag", l.State)
		}
	}
	want := make([]string, sent)
	for i := range want {
		want[i] = fmt.Sprint(i)
	}
	for i := range got {
		require.Equal(t, want, got[i], "client %d", i)
	}
}
