package gateway_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// get returns an answer without its body.
func (f *fixture) get(method, path string, header http.Header) *http.Response {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx(), method, f.url(path), nil)
	require.NoError(f.t, err)
	req.Header = header.Clone()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	require.NoError(f.t, resp.Body.Close())
	return resp
}

func TestHeaders(t *testing.T) {
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, MaxClientsPerAddress: 1, Retry: 7 * time.Second,
		Authorize: func(_ *http.Request, a gateway.Access) error {
			if a.Topic == "closed" {
				return gateway.Refuse(http.StatusUnauthorized, "who are you?")
			}
			return nil
		},
	})
	streams := f.get("GET", "/events?topic=t", nil)
	for name, value := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
	} {
		require.Equal(t, value, streams.Header.Get(name), name)
	}
	f.requireNothingLeft()
	ws := f.dial("/ws")
	many := f.get("GET", "/ws", handshake)
	require.Equal(t, http.StatusTooManyRequests, many.StatusCode)
	require.Equal(t, "7", many.Header.Get("Retry-After"))
	require.Equal(t, "application/json", many.Header.Get("Content-Type"))
	require.NoError(t, ws.CloseNow())
	f.requireNothingLeft()

	closed := f.get("GET", "/listen/closed", handshake)
	require.Equal(t, http.StatusUnauthorized, closed.StatusCode)
	require.Equal(t, "Bearer", closed.Header.Get("WWW-Authenticate"))
	require.Empty(t, closed.Header.Get("Retry-After"), "it is not a matter of time")
	plain := f.get("GET", "/ws", nil)
	require.Equal(t, http.StatusUpgradeRequired, plain.StatusCode)
	require.Equal(t, "websocket", plain.Header.Get("Upgrade"))
	require.Equal(t, "websocket", f.get("GET", "/listen/t", nil).Header.Get("Upgrade"))
	require.Equal(t, "no-store", f.get("GET", "/stats", nil).Header.Get("Cache-Control"))
	page := f.get("GET", "/", nil).Header
	require.Equal(t, "no-referrer", page.Get("Referrer-Policy"))
	require.Contains(t, page.Get("Content-Security-Policy"), "frame-ancestors 'none'")
	for _, path := range []string{"/", "/client.js", "/viewer/viewer.js", "/viewer/style.css"} {
		h := f.get("GET", path, nil).Header
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-cache", h.Get("Cache-Control"), path)
		require.Contains(t, h.Values("Vary"), "Accept-Encoding", path)
	}

	require.NoError(t, f.gw.Shutdown(f.ctx()))
	for _, path := range []string{"/ws", "/listen/t", "/events?topic=t"} {
		stopping := f.get("GET", path, handshake)
		if path == "/events?topic=t" {
			require.Equal(t, http.StatusOK, stopping.StatusCode, "EventSource would not come back")
		} else {
			require.Equal(t, http.StatusServiceUnavailable, stopping.StatusCode, path)
		}
		require.Equal(t, "7", stopping.Header.Get("Retry-After"), path)
	}
	require.Equal(t, http.StatusServiceUnavailable, f.get("GET", "/readyz", nil).StatusCode)
}

// Clients that were cut off together must not come back together.
func TestRetryIsSpread(t *testing.T) {
	const retry = 4 * time.Second
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Retry: retry})
	seen := map[int]bool{}
	for range 30 {
		s := f.stream("topic=t", nil)
		ms, err := strconv.Atoi(strings.TrimPrefix(s.next(), "retry: "))
		require.NoError(t, err)
		require.GreaterOrEqual(t, ms, 3000)
		require.LessOrEqual(t, ms, 5000)
		seen[ms] = true
		require.NoError(t, s.close())
	}
	require.Greater(t, len(seen), 15)
}

// A proxy may write an IPv4 address as IPv6.
func TestMappedAddressIsTheSameClient(t *testing.T) {
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, MaxClientsPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	})
	from := func(address string) int {
		ws, resp, err := websocket.Dial(f.ctx(), f.url("/ws"), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {address}}})
		if err == nil {
			t.Cleanup(func() { _ = ws.CloseNow() })
		}
		return resp.StatusCode
	}
	require.Equal(t, 101, from("::ffff:203.0.113.7"))
	require.Equal(t, 429, from("203.0.113.7"))
	require.Equal(t, 101, from("::ffff:203.0.113.8"), "another client, although of the same /64")
}

func TestPublishingEndsInItsTime(t *testing.T) {
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub, err := pghub.New(pghub.Config{Pool: pool, PublishTimeout: time.Hour})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	gw, err := gateway.New(hub, gateway.Config{Publish: []string{"*"}, PublishTimeout: 20 * time.Millisecond})
	require.NoError(t, err)
	f := serve(t, hub, gw)
	f.pool = pool
	var held []*pgxpool.Conn
	for range f.pool.Config().MaxConns {
		conn, err := f.pool.Acquire(f.ctx())
		require.NoError(t, err)
		held = append(held, conn)
	}
	status, name := f.refused("POST", "/notify/t", "1", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "not_connected", name)
	for _, conn := range held {
		conn.Release()
	}
	require.Zero(t, f.gw.Stats().Published)
}

// logText is a log that the test reads.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Whatever is logged, at any level, has no token in it: neither of the URL nor of a header.
func TestNoTokenInTheLog(t *testing.T) {
	log := &logText{}
	f := newFixture(t, gateway.Config{
		Topics: []string{"t"}, Publish: []string{"t"}, MaxMessage: 64,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.Level(-100), AddSource: true})),
		Authorize: func(_ *http.Request, a gateway.Access) error {
			if a.Action == gateway.ActionInspect {
				return http.ErrNoLocation // which is logged
			}
			return nil
		},
	})
	header := handshake.Clone()
	header.Set("Authorization", "Bearer sesame")
	header.Set("Cookie", "session=sesame")
	for _, path := range []string{"/ws?token=sesame&format=x", "/listen/other?token=sesame", "/events?topic=other&token=sesame", "/events?token=sesame", "/stats?token=sesame", "/metrics?token=sesame", "/nowhere?token=sesame"} {
		f.get("GET", path, header)
	}
	for _, path := range []string{"/notify/other?token=sesame", "/notify/t?token=sesame&key=x"} {
		f.get("POST", path, header)
	}
	bySubprotocol := handshake.Clone()
	bySubprotocol.Set("Sec-WebSocket-Protocol", "pghub, pghub.token.sesame")
	for _, path := range []string{"/ws?format=x", "/listen/other", "/stats"} {
		f.get("GET", path, bySubprotocol)
	}
	quiet, _, err := websocket.Dial(f.ctx(), f.url("/listen/t"), &websocket.DialOptions{Subprotocols: []string{"pghub", "pghub.token.sesame"}})
	require.NoError(t, err)
	require.NoError(t, quiet.CloseNow())
	ws := f.dial("/ws?token=sesame")
	f.send(ws, `{"op":"subscribe","id":1,"topics":["other"]}`)
	require.Contains(t, f.read(ws), "topic_not_allowed")
	f.send(ws, strings.Repeat("x", 100))
	f.code(ws)
	require.NoError(t, f.stream("topic=t&token=sesame", header).close())
	f.requireNothingLeft()
	eventually(t, "the end is logged", func() bool { return strings.Contains(log.String(), "a WebSocket has ended") })
	require.Contains(t, log.String(), "refused")
	require.Contains(t, log.String(), "not authorised")
	require.NotContains(t, log.String(), "sesame")
}
