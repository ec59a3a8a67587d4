package main

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A subscriber sees when it is subscribed, changes, and gaps in their place; the end of the server completes the stream.
func TestSubscription(t *testing.T) {
	dsn := pgtest.Database(t)
	db := pgtest.Conn(t, dsn)
	exec := func(sql string) {
		_, err := db.Exec(pgtest.Within(t), sql)
		require.NoError(t, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(pgtest.Within(t))
	ran := make(chan error, 1)
	go func() { ran <- run(ctx, dsn, listener) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ran)
	})

	const query = `{"query":"subscription { orders { __typename ... on OrderChanged { id status } ... on Gap { reason } ... on Ready { topic } } }"}`
	request, err := http.NewRequestWithContext(pgtest.Within(t), http.MethodPost, "http://"+listener.Addr().String()+"/graphql", strings.NewReader(query))
	require.NoError(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, answer.Body.Close()) })
	require.Equal(t, http.StatusOK, answer.StatusCode)
	lines := bufio.NewScanner(answer.Body)
	next := func() string {
		for lines.Scan() {
			if data, is := strings.CutPrefix(lines.Text(), "data:"); is {
				return strings.TrimSpace(data)
			}
		}
		require.NoError(t, lines.Err())
		return "the end"
	}

	require.JSONEq(t, `{"data":{"orders":{"__typename":"Ready","topic":"orders"}}}`, next())
	exec(`NOTIFY orders, 'e7:{"status":"sold"}'`)
	require.JSONEq(t, `{"data":{"orders":{"__typename":"OrderChanged","id":"7","status":"sold"}}}`, next())
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghub:graphql' AND datname = current_database()`)
	require.JSONEq(t, `{"data":{"orders":{"__typename":"Gap","reason":"the connection was lost"}}}`, next())
	exec(`NOTIFY orders, 'e8:{"status":"back"}'`)
	require.JSONEq(t, `{"data":{"orders":{"__typename":"OrderChanged","id":"8","status":"back"}}}`, next())
	stop()
	require.Empty(t, next())
	require.Equal(t, "the end", next())
}

// A server that cannot serve ends the program, and does not leave it there without one.
func TestServeFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	ctx := pgtest.Within(t)
	require.ErrorIs(t, run(ctx, pgtest.Database(t), listener), net.ErrClosed)
	require.NoError(t, ctx.Err(), "at once")
}
