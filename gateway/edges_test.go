package gateway_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// A topic may have 63 bytes.
func TestTheLongestTopic(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Publish: []string{"*"}})
	topic := strings.Repeat("x", 63)
	ws := f.dial("/listen/" + topic)
	status, _ := f.refused("POST", "/notify/"+topic, "1", nil)
	require.Equal(t, http.StatusNoContent, status)
	f.expect(ws, "e:1")
}

// Requests with a body under way are as many as clients may be, of all addresses together too.
func TestBodiesOfAllAddressesAreCounted(t *testing.T) {
	f := newFixture(t, gateway.Config{
		Publish: []string{"*"}, MaxClients: 2, ReadTimeout: waiting, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	for i := range 2 {
		_, in := f.raw(fmt.Sprintf("POST /pg/notify/t HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.%d\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", i))
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "100 Continue", "it is being read")
	}
	status, name := f.refused("POST", "/notify/t", "1", http.Header{"X-Forwarded-For": {"192.0.2.9"}})
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "too_many_clients", name)
}

// panickyWriter panics when an answer begins.
type panickyWriter struct{ *httptest.ResponseRecorder }

func (panickyWriter) Header() http.Header { panic("a map that is nil") }

// A panic is one line in the log, with no token, and 500 in the access log. The server ends the request.
func TestPanicOfARequest(t *testing.T) {
	log, access := &logText{}, &logText{}
	f := newFixture(t, gateway.Config{
		Logger: slog.New(slog.NewTextHandler(log, nil)), AccessLog: slog.New(slog.NewTextHandler(access, nil)),
	})
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/healthz?token=sesame", nil)
	r.Header.Set("Authorization", "Bearer sesame")
	f.gw.ServeHTTP(httptest.NewRecorder(), r)
	require.Empty(t, log.String())
	require.Contains(t, access.String(), "status=200")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { f.gw.ServeHTTP(panickyWriter{httptest.NewRecorder()}, r) })
	require.Equal(t, 1, strings.Count(log.String(), "level="), log.String())
	require.Contains(t, log.String(), "level=ERROR")
	require.Contains(t, log.String(), "a map that is nil")
	require.Equal(t, 1, strings.Count(access.String(), "status=500"))
	require.NotContains(t, log.String()+access.String(), "sesame")
}

// What a client sends compressed is measured as it is when unpacked, and what it gets is compressed where that was agreed on.
func TestDeflateOnTheWire(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Compress: true})
	open := func(path string) *rawSocket {
		conn, in := f.raw(strings.ReplaceAll("GET /pg"+path+" HTTP/1.1\nHost: 127.0.0.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"+
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\nSec-WebSocket-Extensions: permessage-deflate\n\n", "\n", "\r\n"))
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Contains(t, resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
		return &rawSocket{conn.(*net.TCPConn), in}
	}
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestCompression)
	require.NoError(t, err)
	_, err = z.Write(make([]byte, 10<<20))
	require.NoError(t, err)
	require.NoError(t, z.Flush())
	bomb := bytes.TrimSuffix(packed.Bytes(), []byte{0, 0, 0xff, 0xff})
	require.Less(t, len(bomb), 16<<10, "it is no longer than a message may be")
	ws := open("/ws")
	_, err = ws.conn.Write(append([]byte{0xc1, 0x80 | 126, byte(len(bomb) >> 8), byte(len(bomb)), 0, 0, 0, 0}, bomb...))
	require.NoError(t, err)
	require.Equal(t, int(websocket.StatusMessageTooBig), ws.code(nil))

	ws = open("/listen/t")
	f.notify("t", strings.Repeat("x", 7000))
	head, err := ws.in.Peek(2)
	require.NoError(t, err)
	require.EqualValues(t, 0xc1, head[0], "the last part of a text, compressed")
	require.Less(t, int(head[1]), 126, "and so it is short")
}

// deadlines takes down the last deadline of writing.
type deadlines struct {
	*httptest.ResponseRecorder
	last time.Time
}

func (d *deadlines) SetReadDeadline(time.Time) error { return nil }

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.last = at
	return nil
}

// The end of an event stream has as long as its events had: a client that takes nothing any more does not keep the server from closing.
func TestTheEndOfAnEventStreamHasADeadline(t *testing.T) {
	const patience = time.Hour
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: patience})
	w, ended := &deadlines{ResponseRecorder: httptest.NewRecorder()}, make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(ended)
		f.gw.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/events?topic=t", nil))
	}()
	eventually(t, "it is told that it is subscribed", func() bool { return f.gw.Stats().Sent == 1 })
	require.NoError(t, f.gw.Shutdown(f.ctx()))
	<-ended
	require.False(t, w.last.Before(begun.Add(patience)))
}
