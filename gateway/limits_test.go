package gateway_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// queryOf asks for n topics, the first of them with this number.
func queryOf(first, n int) string {
	query := url.Values{}
	for i := range n {
		query.Add("topic", fmt.Sprint("topic", first+i))
	}
	return query.Encode()
}

func topicsOf(first, n int) string {
	topics := make([]string, n)
	for i := range topics {
		topics[i] = fmt.Sprintf("%q", fmt.Sprint("topic", first+i))
	}
	return strings.Join(topics, ",")
}

// requireNothingLeft waits until neither gateway nor hub has anything of a client.
func (f *fixture) requireNothingLeft() {
	f.t.Helper()
	eventually(f.t, "all have left", func() bool {
		st, hub := f.gw.Stats(), f.hub.Stats()
		return st.WebSockets == 0 && st.Streams == 0 && st.Topics == 0 && hub.Consumers == f.own && hub.Topics == 0 && hub.Listening == 0
	})
}

// Each limit lets in what it says, not one more and not one less; what is refused leaves nothing behind; and whoever
// leaves makes room.
func TestLimitsAtTheirEdges(t *testing.T) {
	all := []string{"*"}
	t.Run("MaxClients", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, MaxClients: 2})
		f.dial("/listen/t")
		ws := f.dial("/ws")
		for _, path := range []string{"/ws", "/listen/u", "/events?topic=u"} {
			f.requireRefused(path, 503, "too_many_clients")
		}
		st := f.gw.Stats()
		require.Equal(t, 2, f.hub.Stats().Consumers, "those that were refused had none")
		require.Equal(t, 1, st.Topics)
		require.EqualValues(t, 2, st.Accepted)
		require.EqualValues(t, 3, st.Refused["too_many_clients"])
		require.NoError(t, ws.CloseNow())
		eventually(t, "one has left", func() bool { return f.gw.Stats().WebSockets == 1 })
		f.dial("/ws")
	})
	t.Run("MaxClientsPerAddress", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, MaxClientsPerAddress: 2})
		ws := f.dial("/ws")
		s := f.stream("topic=t", nil)
		for _, path := range []string{"/ws", "/listen/u", "/events?topic=u"} {
			f.requireRefused(path, 429, "too_many_from_address")
		}
		require.Equal(t, 2, f.hub.Stats().Consumers, "those that were refused had none")
		require.NoError(t, ws.CloseNow())
		require.NoError(t, s.close())
		f.requireNothingLeft()
		f.dial("/ws")
		f.dial("/ws")
	})
	t.Run("MaxTopics", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, MaxTopics: 3})
		s := f.stream(queryOf(0, 3), nil)
		require.Contains(t, s.next(), "retry")
		status, name := f.refused("GET", "/events?"+queryOf(0, 4), "", nil)
		require.Equal(t, 400, status)
		require.Equal(t, "too_many_topics", name)

		ws := f.dial("/ws")
		f.send(ws, `{"op":"subscribe","id":1,"topics":[`+topicsOf(0, 4)+`]}`)
		require.Contains(t, f.read(ws), `"error":"too_many_topics"`)
		f.send(ws, `{"op":"subscribe","id":2,"topics":[`+topicsOf(0, 2)+`]}`)
		f.send(ws, `{"op":"subscribe","id":3,"topics":[`+topicsOf(1, 2)+`]}`) // one of them it has
		f.send(ws, `{"op":"subscribe","id":4,"topics":["one more"]}`)
		f.send(ws, `{"op":"unsubscribe","id":5,"topics":["topic1"]}`)
		f.send(ws, `{"op":"subscribe","id":6,"topics":["one more"]}`)
		for _, part := range []string{`"op":"subscribed","id":2`, `"op":"subscribed","id":3`, `"op":"error","id":4`, `"op":"unsubscribed","id":5`, `"op":"subscribed","id":6`} {
			require.Contains(t, f.answer(ws), part)
		}
	})
	t.Run("MaxTopicsTotal", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, MaxTopicsTotal: 3})
		s := f.stream(queryOf(0, 3), nil)
		require.Contains(t, s.next(), "retry")
		f.dial("/listen/topic1") // another client's, not another topic
		for _, path := range []string{"/listen/u", "/events?topic=topic0&topic=u"} {
			f.requireRefused(path, 503, "too_many_topics_total")
		}
		require.Equal(t, 3, f.gw.Stats().Topics)
		require.Equal(t, 2, f.hub.Stats().Consumers, "those that were refused had none")
		require.NoError(t, s.close())
		eventually(t, "its topics are free", func() bool { return f.gw.Stats().Topics == 1 })
		require.Contains(t, f.stream(queryOf(5, 2), nil).next(), "retry")
	})
	t.Run("MaxTopicsPerAddress", func(t *testing.T) {
		f := newFixture(t, gateway.Config{
			Topics: all, MaxTopicsPerAddress: 3, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		})
		s := f.stream(queryOf(0, 2), nil)
		require.Contains(t, s.next(), "retry")
		ws := f.dial("/ws")
		f.send(ws, `{"op":"subscribe","id":1,"topics":[`+topicsOf(0, 3)+`]}`) // two of them its address has
		require.Contains(t, f.answer(ws), `"op":"subscribed","id":1`)
		f.send(ws, `{"op":"subscribe","id":2,"topics":["one more"]}`)
		require.Contains(t, f.answer(ws), `"error":"too_many_topics_from_address"`)
		for _, path := range []string{"/listen/u", "/events?topic=topic0&topic=u"} {
			f.requireRefused(path, 429, "too_many_topics_from_address")
		}
		other := http.Header{"X-Forwarded-For": {"192.0.2.1"}}
		require.Contains(t, f.stream(queryOf(5, 3), other).next(), "retry", "of another address")
		require.NoError(t, s.close())
		eventually(t, "it has left", func() bool { return f.gw.Stats().Streams == 1 })
		f.send(ws, `{"op":"subscribe","id":3,"topics":["one more"]}`)
		require.Contains(t, f.answer(ws), `"error":"too_many_topics_from_address"`, "the other client still has them")
		f.send(ws, `{"op":"unsubscribe","id":4,"topics":["topic0"]}`)
		require.Contains(t, f.answer(ws), `"op":"unsubscribed"`)
		f.send(ws, `{"op":"subscribe","id":5,"topics":["one more"]}`)
		require.Contains(t, f.answer(ws), `"op":"subscribed","id":5`)
	})
	t.Run("MaxMessage", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, Publish: all, MaxMessage: 100})
		status, _ := f.refused("POST", "/notify/t?format=payload", strings.Repeat("x", 100), nil)
		require.Equal(t, 204, status)
		status, name := f.refused("POST", "/notify/t?format=payload", strings.Repeat("x", 101), nil)
		require.Equal(t, 413, status)
		require.Equal(t, "too_large", name)
		require.EqualValues(t, 1, f.gw.Stats().Published)

		ws := f.dial("/ws")
		ping := `{"op":"ping","id":"` + strings.Repeat("x", 79) + `"}`
		f.send(ws, ping)
		require.Len(t, ping, 100)
		require.Contains(t, f.read(ws), "pong")
		f.send(ws, ping+" ")
		require.EqualValues(t, gateway.CodeTooBig, f.code(ws))
	})
	t.Run("MaxRate", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all, MaxRate: 1}) // and ten at once
		ws := f.dial("/ws")
		for range 10 {
			f.send(ws, `{"op":"ping"}`)
			f.expect(ws, `{"op":"pong"}`)
		}
		go func() {
			for ws.Write(f.ctx(), 1, []byte(`{"op":"ping"}`)) == nil { // at once: far more than one a second
			}
		}()
		require.EqualValues(t, gateway.CodeFlood, f.code(ws))
		require.EqualValues(t, 1, f.gw.Stats().Closed["flood"])
	})
}

// Whatever a client is refused for, and however it goes, nothing of it is left.
func TestNothingIsLeftOfAFailure(t *testing.T) {
	t.Run("without a history", func(t *testing.T) { nothingIsLeftOfAFailure(t, gateway.Config{}, 0) })
	t.Run("with a history", func(t *testing.T) {
		nothingIsLeftOfAFailure(t, gateway.Config{HistoryEvents: 10, HistoryLinger: time.Millisecond}, 1)
	})
}

func nothingIsLeftOfAFailure(t *testing.T, cfg gateway.Config, own int) {
	cfg.Topics, cfg.MaxTopics = []string{"*"}, 1
	f := fixtureOn(t, pgtest.Latin1Database(t), cfg)
	if f.own = own; own > 0 { // it begins with the first client
		require.NoError(t, f.stream("topic=t", nil).close())
	}
	const refused = "€" // has no place in LATIN1
	for _, path := range []string{"/listen/" + url.PathEscape(refused), "/events?topic=" + url.QueryEscape(refused)} {
		status, name := f.refused("GET", path, "", handshake)
		require.Equal(t, http.StatusBadGateway, status, path)
		require.Equal(t, "listen_refused", name, path)
		f.requireNothingLeft()
	}
	bad := handshake.Clone()
	bad.Set("Sec-WebSocket-Key", "x")
	status, _ := f.refused("GET", "/listen/t", "", bad)
	require.Equal(t, http.StatusBadRequest, status)
	f.requireNothingLeft()
	require.EqualValues(t, 1, f.gw.Stats().Refused["bad_request"])
	require.EqualValues(t, 2, f.gw.Stats().Refused["listen_refused"])

	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","id":1,"topics":["`+refused+`"]}`)
	require.Contains(t, f.answer(ws), `"error":"listen_refused"`)
	require.Zero(t, f.gw.Stats().Topics)
	f.send(ws, `{"op":"subscribe","id":2,"topics":["t"]}`)
	require.Contains(t, f.answer(ws), `"op":"subscribed","id":2`, "the topic that was refused does not count")
	require.NoError(t, ws.CloseNow())
	f.requireNothingLeft()
}

func TestPublishIsNotListening(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a"}, Publish: []string{"b"}})
	for _, path := range []string{"/listen/b", "/events?topic=b"} {
		_, name := f.refused("GET", path, "", handshake)
		require.Equal(t, "topic_not_allowed", name, path)
	}
	_, name := f.refused("POST", "/notify/a", "1", nil)
	require.Equal(t, "topic_not_allowed", name)
}

func TestDropsAreStillCountedAfterTheClientHasLeft(t *testing.T) {
	const clients = 40
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxPending: 16 << 10, MaxPendingTotal: 1})
	var all []*rawSocket
	for range clients {
		all = append(all, f.dialRaw("/listen/t?format=event", 4096))
	}
	f.publish("t", 1, 400)
	eventually(t, "events are dropped", func() bool { return f.gw.Stats().Dropped > 0 && f.hub.Stats().Received == 400 })
	before := f.gw.Stats().Dropped
	for _, slow := range all {
		require.NoError(t, slow.conn.Close())
	}
	for left := false; !left; { // nor do they fall in between
		left = f.gw.Stats().WebSockets == 0
		now := f.gw.Stats().Dropped
		require.GreaterOrEqual(t, now, before)
		before = now
	}
	f.requireNothingLeft()
}

// The hub itself may have dropped events for a client. Who gets payloads alone cannot be told, and is closed.
func TestLagOfTheHubEndsARawClient(t *testing.T) {
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub, err := pghub.New(pghub.Config{Pool: pool, QueueSize: 1})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	gw, err := gateway.New(hub, gateway.Config{Topics: []string{"*"}})
	require.NoError(t, err)
	f := serve(t, hub, gw)
	f.pool = pool
	raw, told := f.dial("/listen/t"), f.dial("/listen/t?format=event")
	f.publish("t", 1, 50) // in one transaction: many come at once
	require.EqualValues(t, gateway.CodeSlow, f.code(raw))
	for m := ""; !strings.Contains(m, `"action":"lag"`); m = f.read(told) {
		require.NotContains(t, m, `"final":true`)
	}
	require.NotZero(t, f.gw.Stats().Closed["slow"])
}

// A client may send its first message together with its handshake.
func TestBytesBehindTheHandshake(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	host := strings.TrimPrefix(f.http.URL, "http://")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	message := `{"op":"ping"}`
	_, err = fmt.Fprintf(conn, "GET /pg/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81%s\x00\x00\x00\x00%s", host, []byte{0x80 | byte(len(message))}, message)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(waiting)))
	s := &rawSocket{conn.(*net.TCPConn), bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	data, err := s.readText(make([]byte, 100))
	require.NoError(t, err)
	require.Equal(t, `{"op":"pong"}`, string(data))
}

// answer reads the next message that answers an operation.
func (f *fixture) answer(ws *websocket.Conn) string {
	f.t.Helper()
	for {
		if m := f.read(ws); strings.Contains(m, `"op":`) {
			return m
		}
	}
}
