package gateway_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

func TestListenGivesPayloadsAsTheyCame(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	for _, route := range []string{"/listen/", "/subscribe/"} {
		ws := f.dial(route + "plain")
		for _, payload := range []string{"hello", "e1,2:{\"a\":1}", "", "ä€😀\t\r\n\"\\", "e:null"} {
			f.notify("plain", payload)
			f.expect(ws, payload)
		}
		require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
	}
}

func TestListenTopicsWithAnyCharacter(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	for topic, path := range map[string]string{"a/b": "a%2Fb", "Ünïcode ?&": "%C3%9Cn%C3%AFcode%20%3F%26", "%": "%25", "..": "%2E%2E"} {
		ws := f.dial("/listen/" + path + "?format=event")
		f.expect(ws, advisory(`{"action":"subscribe","topic":"`+topic+`","final":false}`))
		f.notify(topic, "e7")
		f.expect(ws, event(topic, "7", "null"))
	}
}

func TestListenAsEvents(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"t"}})
	ws := f.dial("/listen/t?format=event")
	f.expect(ws, advisory(`{"action":"subscribe","topic":"t","final":false}`))
	f.notify("t", `e-9223372036854775808,5:{"a":9223372036854775807}`)
	f.notify("t", "not of the wire format")
	f.notify("t", `e1:{"broken":`)
	f.expect(ws,
		event("t", "-9223372036854775808,5", `{"a":9223372036854775807}`),
		`{"topic":"t","key":[],"value":null,"payload":"not of the wire format","undecodable":"no leading e"}`,
		`{"topic":"t","key":[],"value":null,"payload":"e1:{\"broken\":","undecodable":"the value is not valid JSON"}`)
}

func TestManyTopicsOnOneWebSocket(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a", "b", "c*"}})
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","id":1,"topics":["a","b"]}`)
	f.expectAny(ws,
		advisory(`{"action":"subscribe","topic":"a","final":false}`),
		advisory(`{"action":"subscribe","topic":"b","final":false}`),
		`{"op":"subscribed","id":1,"topics":["a","b"]}`)
	f.notify("a", "e1")
	f.notify("b", `e:"x"`)
	f.expect(ws, event("a", "1", "null"), event("b", "", `"x"`))

	f.send(ws, `{"op":"unsubscribe","id":"two","topics":["a"]}`)
	f.expect(ws, `{"op":"unsubscribed","id":"two","topics":["a"]}`)
	f.notify("a", "e2")
	f.notify("b", "e3")
	f.expect(ws, event("b", "3", "null"))

	f.send(ws, `{"op":"ping"}`)
	f.expect(ws, `{"op":"pong"}`)
	f.send(ws, `{"op":"subscribe","id":3,"topics":["c1","secret"]}`)
	f.expect(ws, `{"op":"error","id":3,"error":"topic_not_allowed","message":"this topic is not open to clients","topic":"secret"}`)
	f.send(ws, `{"op":"dance","id":4}`)
	f.expect(ws, `{"op":"error","id":4,"error":"bad_request","message":"op is subscribe, unsubscribe or ping"}`)
	f.send(ws, `{"op":"subscribe"}`)
	f.expect(ws, `{"op":"error","error":"bad_request","message":"topics are missing"}`)
	f.send(ws, `no JSON`)
	require.Contains(t, f.read(ws), `"error":"bad_request"`)
	require.Equal(t, 1, f.listening(), "b alone is left: a refused operation leaves nothing behind")
}

func TestOneListenForAllUntilTheLast(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	var all []*websocket.Conn
	for range 20 {
		all = append(all, f.dial("/listen/t"))
	}
	require.Equal(t, 1, f.listening())
	var backends int
	require.NoError(t, f.pool.QueryRow(f.ctx(),
		"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pghub' AND datname = current_database()").Scan(&backends))
	require.Equal(t, 1, backends, "one listener connection")
	for i, ws := range all {
		require.Equal(t, 1, f.listening())
		require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
		eventually(t, "the client has left", func() bool { return f.gw.Stats().WebSockets == len(all)-1-i })
	}
	eventually(t, "UNLISTEN with the last", func() bool { return f.listening() == 0 })
}

func TestShutdownTellsClients(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	events, payloads, many := f.dial("/listen/t?format=event"), f.dial("/listen/t"), f.dial("/ws")
	f.expect(events, advisory(`{"action":"subscribe","topic":"t","final":false}`))
	f.notify("t", "e1")
	eventually(t, "it has arrived", func() bool { return f.hub.Stats().Received == 1 })

	done := make(chan error, 1)
	go func() { done <- f.gw.Shutdown(f.ctx()) }()
	f.expect(events, event("t", "1", "null"), advisory(`{"action":"close","final":true}`))
	f.expect(payloads, "e1")
	f.expect(many, advisory(`{"action":"close","final":true}`))
	for _, ws := range []*websocket.Conn{events, payloads, many} {
		require.EqualValues(t, gateway.CodeGoingAway, f.code(ws))
	}
	require.NoError(t, <-done)
	require.NoError(t, f.gw.Shutdown(f.ctx()), "again")

	status, name := f.refused("GET", "/listen/t", "", handshake)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "shutting_down", name)
	status, _ = f.refused("GET", "/readyz", "", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
}

func TestHubStopTellsClients(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	ws := f.dial("/listen/t?format=event")
	f.expect(ws, advisory(`{"action":"subscribe","topic":"t","final":false}`))
	require.NoError(t, f.hub.Stop(f.ctx()))
	f.expect(ws, advisory(`{"action":"stop","final":true}`))
	require.EqualValues(t, gateway.CodeGoingAway, f.code(ws))
}

func TestShutdownCutsOffAtItsContextsEnd(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: time.Hour})
	f.dial("/listen/t?format=event")          // does not read, so it does not answer the closing handshake
	f.dialRaw("/listen/t?format=event", 4096) // nor this one, which is in the middle of a write
	f.publish("t", 1, 3000)
	eventually(t, "nothing more fits into the connection", func() bool { return f.gw.Stats().Pending > 0 && f.hub.Stats().Received == 3000 })
	ctx, cancel := context.WithCancel(f.ctx())
	cancel()
	require.ErrorIs(t, f.gw.Shutdown(ctx), context.Canceled)
	eventually(t, "it has left", func() bool { return f.gw.Stats().WebSockets == 0 })
}
