package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// waiting bounds what a test waits for: reached only when something is broken.
const waiting = 20 * time.Second

// fixture is a gateway on a real database and a real port.
type fixture struct {
	t    *testing.T
	pool *pgxpool.Pool
	hub  *pghub.Hub
	gw   *gateway.Gateway
	http *httptest.Server
	own  int // consumers of the gateway itself
}

// newFixture serves a gateway to a database of its own, under a prefix.
func newFixture(t *testing.T, cfg gateway.Config) *fixture {
	t.Helper()
	return fixtureOn(t, pgtest.Database(t), cfg)
}

func fixtureOn(t *testing.T, dsn string, cfg gateway.Config) *fixture {
	t.Helper()
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, dsn)
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMax: 200 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	gw, err := gateway.New(hub, cfg)
	require.NoError(t, err)
	f := serve(t, hub, gw)
	f.pool = pool
	return f
}

// serve puts a gateway on a port. When the test has ended gateway, server and hub are ended, in this order.
func serve(t *testing.T, hub *pghub.Hub, gw *gateway.Gateway) *fixture {
	t.Helper()
	return serveWith(t, hub, gw, (*httptest.Server).Start)
}

func serveWith(t *testing.T, hub *pghub.Hub, gw *gateway.Gateway, start func(*httptest.Server)) *fixture {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/pg/", http.StripPrefix("/pg", gw))
	f := &fixture{t: t, hub: hub, gw: gw, http: httptest.NewUnstartedServer(mux)}
	f.http.Config.ConnContext = gateway.ConnContext
	start(f.http)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waiting)
		defer cancel()
		_ = f.gw.Shutdown(ctx) // a test may have left clients that do not answer
		f.http.CloseClientConnections()
		f.http.Close()
		require.NoError(t, f.hub.Stop(ctx))
	})
	return f
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), waiting)
	f.t.Cleanup(cancel)
	return ctx
}

// url is the address of a route.
func (f *fixture) url(path string) string { return f.http.URL + "/pg" + path }

// notify sends as any program does.
func (f *fixture) notify(topic, payload string) {
	f.t.Helper()
	_, err := f.pool.Exec(f.ctx(), "SELECT pg_notify($1, $2)", topic, payload)
	require.NoError(f.t, err)
}

// dial opens a WebSocket; a program sends no Origin.
func (f *fixture) dial(path string) *websocket.Conn {
	f.t.Helper()
	ws, resp, err := websocket.Dial(f.ctx(), f.url(path), nil)
	require.NoError(f.t, err, "%v", resp)
	f.t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// refused makes a request with a header and returns the status and the name of the error.
func (f *fixture) refused(method, path, body string, header http.Header) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx(), method, f.url(path), strings.NewReader(body))
	require.NoError(f.t, err)
	for name, values := range header {
		req.Header[name] = values
		if name == "Host" {
			req.Host = values[0]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	defer func() { _ = resp.Body.Close() }()
	var problem struct{ Error string }
	text, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	_ = json.Unmarshal(text, &problem) // an answer that is none has no name
	return resp.StatusCode, problem.Error
}

var handshake = http.Header{
	"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
	"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
}

func (f *fixture) read(ws *websocket.Conn) string {
	f.t.Helper()
	kind, data, err := ws.Read(f.ctx())
	require.NoError(f.t, err)
	require.Equal(f.t, websocket.MessageText, kind)
	return string(data)
}

// expect reads messages, which must be these.
func (f *fixture) expect(ws *websocket.Conn, messages ...string) {
	f.t.Helper()
	for _, m := range messages {
		require.Equal(f.t, m, f.read(ws))
	}
}

// expectAny reads as many messages, which must be these in some order.
func (f *fixture) expectAny(ws *websocket.Conn, messages ...string) {
	f.t.Helper()
	var got []string
	for range messages {
		got = append(got, f.read(ws))
	}
	require.ElementsMatch(f.t, messages, got)
}

func (f *fixture) send(ws *websocket.Conn, message string) {
	f.t.Helper()
	require.NoError(f.t, ws.Write(f.ctx(), websocket.MessageText, []byte(message)))
}

// code reads until the connection is closed and returns the code.
func (f *fixture) code(ws *websocket.Conn) websocket.StatusCode {
	f.t.Helper()
	for {
		if _, _, err := ws.Read(f.ctx()); err != nil {
			require.NoError(f.t, f.ctx().Err())
			return websocket.CloseStatus(err)
		}
	}
}

// listening is the number of channels that the hub's server process listens to.
func (f *fixture) listening() int { return f.hub.Stats().Listening }

func advisory(value string) string { return `{"topic":null,"key":[],"value":` + value + `}` }

func event(topic, key, value string) string {
	return `{"topic":"` + topic + `","key":[` + key + `],"value":` + value + `}`
}

// eventually waits for what no event tells.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, waiting, 2*time.Millisecond, what)
}

// holdListener keeps the database from answering the hub, whose server process stands still until the test has ended. It
// must not stand still for longer: a server cannot drop any database while one of its processes does not answer.
func (f *fixture) holdListener() {
	f.t.Helper()
	server, pid := pgtest.Shared(f.t), int(f.hub.Stats().PID)
	require.NoError(f.t, server.Signal(pid, pgtest.Freeze))
	f.t.Cleanup(func() { require.NoError(f.t, server.Signal(pid, pgtest.Thaw)) })
}
