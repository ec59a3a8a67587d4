package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// clientsFunc is a gateway whose clients leave in the way of the test.
type clientsFunc func(context.Context) error

func (f clientsFunc) Shutdown(ctx context.Context) error { return f(ctx) }

// Nobody gets in any more when the clients are told to leave: they come back at once, and would be refused here, where another
// server may already be waiting for them.
func TestTheDoorIsClosedBeforeClientsLeave(t *testing.T) {
	t.Run("open", func(t *testing.T) { closeTheDoor(t, func(*http.Server) <-chan struct{} { return nil }) })
	t.Run("about to open", func(t *testing.T) {
		closeTheDoor(t, func(web *http.Server) <-chan struct{} {
			stopping := make(chan struct{})
			web.RegisterOnShutdown(func() { close(stopping) })
			return stopping
		})
	})
}

// closeTheDoor stops a server that begins to serve when what opens returns is closed; nil: before.
func closeTheDoor(t *testing.T, opens func(*http.Server) <-chan struct{}) {
	pgtest.CheckLeaks(t)
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none")
	require.NoError(t, err)
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	served, result, begin := make(chan struct{}), make(chan error, 1), opens(web)
	go func() {
		defer close(served)
		if begin != nil {
			<-begin
		}
		result <- web.Serve(listener)
	}()
	if begin == nil {
		resp, err := http.Get("http://" + listener.Addr().String()) // it has begun
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		http.DefaultClient.CloseIdleConnections()
	}

	told := false
	s := server{logger: slog.New(slog.DiscardHandler), grace: time.Minute}
	require.NoError(t, s.stop(t.Context(), clientsFunc(func(context.Context) error {
		told = true
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		require.Error(t, err)
		return nil
	}), web, served, hub, pool))
	require.True(t, told)
	require.ErrorIs(t, <-result, http.ErrServerClosed)
}

// A database that is back is listened to soon: what waits for it are people.
func TestServeComesBackSoon(t *testing.T) {
	p := start(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/none"}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--log-level", "debug", "--reconnect-max", "7ms")
	const most = 7 * time.Millisecond
	require.Eventually(t, func() bool { return strings.Count(p.said(), "next_attempt_in=") >= 2 }, waiting, 5*time.Millisecond)
	for _, m := range regexp.MustCompile(`next_attempt_in=(\S+)`).FindAllStringSubmatch(p.said(), -1) {
		next, err := time.ParseDuration(m[1])
		require.NoError(t, err)
		require.LessOrEqual(t, next, most)
	}
}
