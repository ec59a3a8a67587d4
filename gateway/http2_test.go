package gateway_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// gatedConn is a connection that stops reading.
type gatedConn struct {
	net.Conn
	gate sync.RWMutex
}

func (c *gatedConn) Read(p []byte) (int, error) {
	c.wait()
	return c.Conn.Read(p)
}

func (c *gatedConn) wait() {
	c.gate.RLock()
	defer c.gate.RUnlock()
}

// newHTTP2Fixture serves a gateway over TLS and HTTP/2.
func newHTTP2Fixture(t *testing.T, cfg gateway.Config) *fixture {
	t.Helper()
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	gw, err := gateway.New(hub, cfg)
	require.NoError(t, err)
	f := serveWith(t, hub, gw, func(server *httptest.Server) {
		server.EnableHTTP2 = true
		server.StartTLS()
	})
	f.pool = pool
	return f
}

// streamHTTP2 opens an event stream on a connection of its own. The client says that it takes so many bytes that nobody has read.
func (f *fixture) streamHTTP2(query string, takes int) (*stream, *gatedConn) {
	f.t.Helper()
	var gated *gatedConn
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   f.http.Client().Transport.(*http.Transport).TLSClientConfig.Clone(),
		HTTP2:             &http.HTTP2Config{MaxReceiveBufferPerStream: takes, MaxReceiveBufferPerConnection: 64 << 20},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			gated = &gatedConn{Conn: conn}
			return gated, conn.(*net.TCPConn).SetReadBuffer(4096)
		},
	}
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url("/events?"+query), nil)
	require.NoError(f.t, err)
	resp, err := transport.RoundTrip(req)
	require.NoError(f.t, err)
	require.Equal(f.t, 2, resp.ProtoMajor)
	require.Equal(f.t, http.StatusOK, resp.StatusCode)
	f.t.Cleanup(func() {
		_ = gated.Close()
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
	})
	return &stream{f, bufio.NewScanner(resp.Body), resp.Body.Close}, gated
}

// Events come over HTTP/2, and what waits for a client that does not read waits where it is counted.
func TestEventStreamsOverHTTP2(t *testing.T) {
	f := newHTTP2Fixture(t, patient(gateway.Config{Topics: []string{"*"}}))
	s, gated := f.streamHTTP2("topic=t", 64<<20)
	require.Contains(t, s.next(), "retry")
	require.Contains(t, s.next(), "subscribe")
	f.notify("t", "e1")
	s.expect("id: 2|data: " + event("t", "1", "null"))

	gated.gate.Lock()
	defer gated.gate.Unlock()
	const events = 1500 // 10 MB
	before := f.gw.Stats()
	f.publish("t", 1, events)
	eventually(t, "it waits", func() bool { st := f.gw.Stats(); return st.Received > events && st.Pending > 0 })
	require.Never(t, func() bool { return f.gw.Stats().Sent-before.Sent > events/10 }, 300*time.Millisecond, 10*time.Millisecond)
	t.Log(f.gw.Stats().Sent - before.Sent)
}

// A client on HTTP/2 that takes nothing is cut off, and counted: whether it does not read one stream, or nothing at all.
func TestWhoIsStuckOnHTTP2IsCutOff(t *testing.T) {
	f := newHTTP2Fixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: 2 * time.Second})
	alive, _ := f.streamHTTP2("topic=alive", 64<<10)
	require.Contains(t, alive.next(), "retry")
	one, _ := f.streamHTTP2("topic=t", 64<<10)
	_, gated := f.streamHTTP2("topic=t", 64<<20)
	gated.gate.Lock()
	defer gated.gate.Unlock()
	f.publish("t", 1, 3000)
	eventually(t, "both have left", func() bool { return f.gw.Stats().Streams == 1 })
	require.EqualValues(t, 2, f.gw.Stats().Closed["stuck"])
	for range 100_000 { // what has arrived, then the end
		if one.next() == "END" {
			break
		}
	}
	require.ErrorContains(t, one.lines.Err(), "INTERNAL_ERROR", "the stream was ended, and not its connection")
	require.Contains(t, alive.next(), "subscribe")
	f.notify("alive", "e1")
	alive.expect("id: 2|data: " + event("alive", "1", "null"))
}
