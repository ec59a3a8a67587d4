package main

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A client sees events; a gap ends its call with ABORTED, and it watches again; the end of the server is UNAVAILABLE.
func TestWatch(t *testing.T) {
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
	ended := false
	end := func() {
		stop()
		if !ended {
			ended = true
			require.NoError(t, <-ran)
		}
	}
	t.Cleanup(end)

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	for range 2 {
		orders, err := watch(pgtest.Within(t), conn)
		require.NoError(t, err)
		header, err := orders.Header() // waits for the subscription
		require.NoError(t, err)
		require.Equal(t, []string{"orders"}, header.Get("subscribed"))
		exec(`NOTIFY orders, 'e7:{"status":"sold"}'`)
		got, err := orders.Recv()
		require.NoError(t, err)
		require.Equal(t, map[string]any{"key": []any{7.0}, "value": map[string]any{"status": "sold"}}, got.AsMap())

		exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghub:grpc' AND datname = current_database()`)
		_, err = orders.Recv()
		require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
	}

	orders, err := watch(pgtest.Within(t), conn)
	require.NoError(t, err)
	_, err = orders.Header()
	require.NoError(t, err)
	end()
	_, err = orders.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
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
