package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// stream reads Server-Sent Events.
type stream struct {
	f     *fixture
	lines *bufio.Scanner
	close func() error
}

func (f *fixture) stream(query string, header http.Header) *stream {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx(), http.MethodGet, f.url("/events?"+query), nil)
	require.NoError(f.t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	require.Equal(f.t, http.StatusOK, resp.StatusCode)
	require.Equal(f.t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	f.t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{f, bufio.NewScanner(resp.Body), resp.Body.Close}
}

// next returns the lines of the next block, joined by |.
func (s *stream) next() string {
	var block []string
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return strings.Join(block, "|")
		}
		block = append(block, s.lines.Text())
	}
	return "END"
}

func (s *stream) expect(blocks ...string) {
	s.f.t.Helper()
	for _, b := range blocks {
		require.Equal(s.f.t, b, s.next())
	}
}

func TestServerSentEvents(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	s := f.stream("topic=b&topic=a&topic=a", nil)
	require.Regexp(t, `^retry: \d+$`, s.next())
	s.expect(
		"id: 1|event: advisory|data: "+advisory(`{"action":"subscribe","topic":"a","final":false}`),
		"id: 2|event: advisory|data: "+advisory(`{"action":"subscribe","topic":"b","final":false}`))
	f.notify("a", "e1:{\"x\":\r\n[1,\n2]}")
	f.notify("b", "e2")
	s.expect("id: 3|data: "+event("a", "1", `{"x":[1,2]}`), "id: 4|data: "+event("b", "2", "null"))
	require.NoError(t, s.close())
	eventually(t, "the client has left", func() bool { return f.gw.Stats().Streams == 0 })
}

func TestStreamThatComesBackIsToldOfTheGap(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	s := f.stream("topic=a", http.Header{"Last-Event-Id": {"41"}})
	require.Contains(t, s.next(), "retry")
	first, second := s.next(), s.next()
	require.True(t, strings.HasPrefix(first, "id: 42|") && strings.HasPrefix(second, "id: 43|"), "it counts on: %s, %s", first, second)
	for _, action := range []string{`"subscribe","topic":"a"`, `"reconnect"`} {
		require.Contains(t, first+second, "event: advisory|data: "+advisory(`{"action":`+action+`,"final":false}`))
	}
}

func TestHeartbeats(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Heartbeat: 5 * time.Millisecond})
	s := f.stream("topic=a", nil)
	for block := ""; block != ":"; block = s.next() {
		require.NotEqual(t, "END", block)
	}
}

func TestStreamEndsWithTheGateway(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	s := f.stream("topic=a", nil)
	require.Contains(t, s.next(), "retry")
	require.Contains(t, s.next(), "subscribe")
	require.NoError(t, f.gw.Shutdown(f.ctx()))
	s.expect("id: 2|event: advisory|data: "+advisory(`{"action":"close","final":true}`), "END")
}

// outage is a fixture whose database the test stops and starts.
func outage(t *testing.T, cfg gateway.Config) (*fixture, *pgtest.Server) {
	t.Helper()
	server := pgtest.Private(t, pgtest.Options{})
	return fixtureOn(t, server.DSN(), cfg), server
}

func TestOutage(t *testing.T) {
	f, server := outage(t, gateway.Config{Topics: []string{"*"}, SubscribeTimeout: time.Second})
	ws, many, s := f.dial("/listen/t?format=event"), f.dial("/ws"), f.stream("topic=t", nil)
	f.expect(ws, advisory(`{"action":"subscribe","topic":"t","final":false}`))
	require.Contains(t, s.next(), "retry")
	require.Contains(t, s.next(), "subscribe")

	require.NoError(t, server.Stop(pgtest.Fast))
	gone, back := advisory(`{"action":"disconnect","final":false}`), advisory(`{"action":"reconnect","final":false}`)
	f.expect(ws, gone)
	f.expect(many, gone)
	s.expect("id: 2|event: advisory|data: " + gone)

	// While it is away: clients come and ask, and get an answer.
	status, name := f.refused("GET", "/listen/t2", "", handshake)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "not_connected", name)
	status, _ = f.refused("GET", "/readyz", "", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	status, _ = f.refused("GET", "/healthz", "", nil)
	require.Equal(t, http.StatusOK, status)
	f.send(many, `{"op":"subscribe","id":1,"topics":["t"]}`)
	f.send(many, `{"op":"unsubscribe","id":2,"topics":["t"]}`)
	f.send(many, `{"op":"subscribe","id":3,"topics":["u"]}`)
	f.send(many, `{"op":"ping","id":4}`)
	f.expect(many, `{"op":"pong","id":4}`)
	late := f.stream("topic=t", nil) // EventSource would not come back after a refusal
	require.Contains(t, late.next(), "retry")

	require.NoError(t, server.Start(t.Context()))
	f.expect(ws, back)
	s.expect("id: 3|event: advisory|data: " + back)
	late.expect("id: 1|event: advisory|data: " + advisory(`{"action":"subscribe","topic":"t","final":false}`))
	var answers []string
	for len(answers) == 0 || answers[len(answers)-1] != `{"op":"subscribed","id":3,"topics":["u"]}` {
		if m := f.read(many); strings.Contains(m, `"op"`) {
			answers = append(answers, m)
		}
	}
	require.Equal(t, []string{
		`{"op":"subscribed","id":1,"topics":["t"]}`, `{"op":"unsubscribed","id":2,"topics":["t"]}`,
		`{"op":"subscribed","id":3,"topics":["u"]}`,
	}, answers, "in the order of the operations")

	eventually(t, "the pool is back too", func() bool { return f.pool.Ping(f.ctx()) == nil })
	f.notify("t", "e1")
	f.expect(ws, event("t", "1", "null"))
	s.expect("id: 4|data: " + event("t", "1", "null"))
	late.expect("id: 2|data: " + event("t", "1", "null"))
}

func TestBeforeTheFirstConnection(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	require.NoError(t, server.Stop(pgtest.Fast))
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, server.DSN()), ReconnectMax: 100 * time.Millisecond})
	require.NoError(t, err)
	gw, err := gateway.New(hub, gateway.Config{Topics: []string{"*"}, SubscribeTimeout: time.Second})
	require.NoError(t, err)
	f := serve(t, hub, gw)

	status, name := f.refused("GET", "/ws", "", handshake)
	require.Equal(t, 503, status, "a hub that is not started")
	require.Equal(t, "not_connected", name)

	ended := make(chan error, 1)
	go func() { ended <- hub.Run(t.Context()) }()
	eventually(t, "it runs", func() bool { return hub.State() != pghub.StateIdle })
	status, _ = f.refused("GET", "/listen/t", "", handshake)
	require.Equal(t, 503, status)
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["t"]}`)
	f.send(ws, `{"op":"ping"}`)
	f.expect(ws, `{"op":"pong"}`)
	require.NoError(t, server.Start(t.Context()))
	f.expectAny(ws, advisory(`{"action":"connect","final":false}`), advisory(`{"action":"subscribe","topic":"t","final":false}`),
		`{"op":"subscribed","topics":["t"]}`)
	require.NoError(t, hub.Stop(f.ctx()))
	require.NoError(t, <-ended)
}
