package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// raw writes a text on a connection of its own, and returns it with a reader.
func (f *fixture) raw(text string) (net.Conn, *bufio.Reader) {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.http.URL, "http://"))
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(f.t, conn.SetDeadline(time.Now().Add(waiting)))
	_, err = io.WriteString(conn, text)
	require.NoError(f.t, err)
	return conn, bufio.NewReader(conn)
}

// A request for the header alone makes no client: its writes would succeed for ever, and with a byte behind it the
// server does not notice that it has gone.
func TestHeadMakesNoClient(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	for _, path := range []string{"/events?topic=t", "/listen/t", "/subscribe/t", "/ws"} {
		_, in := f.raw(fmt.Sprintf("HEAD /pg%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx", path))
		resp, err := http.ReadResponse(in, &http.Request{Method: "HEAD"})
		require.NoError(t, err)
		require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, path)
		require.Equal(t, "GET", resp.Header.Get("Allow"), path)
	}
	require.Zero(t, f.gw.Stats().Accepted)
	require.Zero(t, f.gw.Stats().Streams)
}

// A body that does not come to its end holds no connection for ever.
func TestUnfinishedBodiesEnd(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Publish: []string{"*"}, ReadTimeout: 50 * time.Millisecond, MaxMessage: 1000})
	for _, request := range []string{"POST /pg/notify/t", "POST /pg/notify/t?format=xml", "POST /pg/nowhere", "GET /pg/healthz", "GET /pg/events?topic=t", "GET /pg/stats"} {
		for _, length := range []string{"Content-Length: 500", "Content-Length: 100000", "Transfer-Encoding: chunked"} {
			_, in := f.raw(request + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + length + "\r\n\r\n")
			answer, err := io.ReadAll(in) // to the end of the connection
			require.NoError(t, err, "%s, %s", request, length)
			require.Contains(t, string(answer), "HTTP/1.1 4", "%s, %s", request, length)
		}
	}
	require.Zero(t, f.gw.Stats().Published)
}

// Requests whose body is under way count for their address, and make room when they end.
func TestBodiesUnderWayAreCounted(t *testing.T) {
	f := newFixture(t, gateway.Config{Publish: []string{"*"}, MaxClientsPerAddress: 2, ReadTimeout: time.Hour})
	const begin = "POST /pg/notify/t HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
	var conns []net.Conn
	for range 2 {
		conn, in := f.raw(begin)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "100 Continue", "it is being read")
		conns = append(conns, conn)
	}
	status, name := f.refused("POST", "/notify/t", "1", nil)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "too_many_from_address", name)
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	eventually(t, "there is room again", func() bool {
		status, _ := f.refused("POST", "/notify/t", "1", nil)
		return status == http.StatusNoContent
	})
}

// Whatever Authorize does, the process lives on, the client learns that something is wrong, and the log has it.
func TestPanicInAuthorize(t *testing.T) {
	log := &logText{}
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Authorize: func(_ *http.Request, a gateway.Access) error {
			if a.Topic == "bad" {
				panic("a map that is nil")
			}
			return nil
		},
	})
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","id":1,"topics":["bad"]}`)
	require.Contains(t, f.answer(ws), `"op":"error","id":1,"error":"internal"`)
	f.send(ws, `{"op":"subscribe","id":2,"topics":["good"]}`)
	require.Contains(t, f.answer(ws), `"op":"subscribed","id":2`)
	for _, path := range []string{"/listen/bad", "/events?topic=bad"} {
		status, name := f.refused("GET", path, "", handshake)
		require.Equal(t, http.StatusInternalServerError, status, path)
		require.Equal(t, "internal", name, path)
	}
	require.Equal(t, 3, strings.Count(log.String(), "a map that is nil"))
	require.Contains(t, log.String(), "level=ERROR")
	require.Contains(t, log.String(), "requests_test.go", "where it was")
	require.NoError(t, ws.CloseNow())
	f.requireNothingLeft()
}
