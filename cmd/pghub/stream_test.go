package main

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	pghubsql "github.com/pghub/pghub/sql"
)

// Who comes back to another process gets what was published meanwhile.
func TestServeStream(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	args := []string{"serve", "--listen", "127.0.0.1:0", "--topics", "*", "--stream", "orders"}
	require.Contains(t, failing(t, []string{"DATABASE_URL=" + dsn}, args...), "run sql.Install")
	require.NoError(t, pghubsql.Install(t.Context(), pool))
	publish := func(value string) {
		_, err := pool.Exec(t.Context(), "SELECT pghub.publish('orders', value => $1)", value)
		require.NoError(t, err)
	}
	// events reads until one has a text, and returns its id.
	events := func(p *program, id, text string) string {
		req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://"+p.address+"/events?topic=orders", nil)
		require.NoError(t, err)
		req.Header.Set("Last-Event-ID", id)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if shown, is := strings.CutPrefix(lines.Text(), "id: "); is {
				id = shown
			}
			if strings.Contains(lines.Text(), text) {
				return id
			}
		}
		t.Fatal("it does not come: " + text)
		return ""
	}
	p := start(t, []string{"DATABASE_URL=" + dsn}, args...)
	ready(t, http.DefaultClient, "http://"+p.address)
	id := events(p, "", `"subscribe"`)
	p.end(bothSignals[1])
	require.NoError(t, p.err)
	publish(`"while it was away"`)
	p = start(t, []string{"DATABASE_URL=" + dsn}, args...)
	ready(t, http.DefaultClient, "http://"+p.address)
	require.NotEqual(t, id, events(p, id, "while it was away"))
	p.end(bothSignals[0])
	require.NoError(t, p.err)
}

// With a stream it begins to serve when the database is there.
func TestServeStreamWhileTheDatabaseIsAway(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	require.NoError(t, pghubsql.Install(t.Context(), pgtest.Pool(t, server.DSN())))
	require.NoError(t, server.Stop(pgtest.Fast))
	p := launch(t, []string{"DATABASE_URL=" + server.DSN()}, "serve", "--listen", "127.0.0.1:0", "--topics", "*", "--stream", "orders")
	require.Eventually(t, func() bool {
		return strings.Contains(p.said(), "the database cannot be reached, and --stream needs it")
	}, waiting, 5*time.Millisecond)
	require.NoError(t, server.Start(context.Background()))
	p.serves()
	ready(t, http.DefaultClient, "http://"+p.address)
}
