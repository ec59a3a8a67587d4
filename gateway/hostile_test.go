package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// Each hostile input, and what it gets.
func TestHostileInputs(t *testing.T) {
	cfg := gateway.Config{
		Topics: []string{"*"}, MaxTopics: 50, MaxTopicsTotal: 60, MaxMessage: 4096, MaxClientsPerAddress: 5,
	}
	answers := func(status int, name, method, path, body string, header http.Header) func(*fixture) {
		return func(f *fixture) {
			gotStatus, gotName := f.refused(method, path, body, header)
			require.Equal(f.t, status, gotStatus)
			require.Equal(f.t, name, gotName)
		}
	}
	with := func(name, value string) http.Header {
		h := handshake.Clone()
		h.Set(name, value)
		return h
	}
	var thousands []string
	for i := range 3000 {
		thousands = append(thousands, fmt.Sprint("topic", i))
	}
	many, err := json.Marshal(map[string]any{"op": "subscribe", "topics": thousands[:51]})
	require.NoError(t, err)

	for _, test := range []struct {
		input, gets string
		try         func(*fixture)
	}{
		{"foreign origin, WebSocket", "403 origin_not_allowed", answers(403, "origin_not_allowed", "GET", "/ws", "", with("Origin", "https://evil.example"))},
		{"foreign origin, EventSource", "403 origin_not_allowed", answers(403, "origin_not_allowed", "GET", "/events?topic=t", "", http.Header{"Origin": {"https://evil.example"}})},
		{"topic of 64 bytes", "400 bad_topic", answers(400, "bad_topic", "GET", "/listen/"+strings.Repeat("x", 64), "", handshake)},
		{"topic that is not UTF-8", "400 bad_topic", answers(400, "bad_topic", "GET", "/listen/%ff", "", handshake)},
		{"topic with NUL", "400 bad_topic", answers(400, "bad_topic", "GET", "/listen/a%00b", "", handshake)},
		{"SQL for a topic", "a topic of that name", func(f *fixture) {
			ws := f.dial(`/listen/%22%3B%20DROP%20TABLE%20x%3B--`)
			f.notify(`"; DROP TABLE x;--`, "harmless")
			f.expect(ws, "harmless")
		}},
		{"no WebSocket at all", "426 upgrade_required", answers(426, "upgrade_required", "GET", "/ws", "", nil)},
		{"WebSocket of another version", "400", answers(400, "", "GET", "/ws", "", with("Sec-WebSocket-Version", "7"))},
		{"WebSocket without a key", "400", answers(400, "", "GET", "/ws", "", with("Sec-WebSocket-Key", "x"))},
		{"thousands of topics, EventSource", "400 too_many_topics", answers(400, "too_many_topics", "GET", "/events?topic="+strings.Join(thousands, "&topic="), "", nil)},
		{"one topic too many, WebSocket", "error too_many_topics, and nothing subscribed", func(f *fixture) {
			ws := f.dial("/ws")
			f.send(ws, string(many))
			require.Contains(f.t, f.read(ws), `"error":"too_many_topics"`)
			require.Zero(f.t, f.listening())
		}},
		{"thousands of topics by several clients", "too_many_topics_total", func(f *fixture) {
			f.stream("topic="+strings.Join(thousands[:50], "&topic="), nil)
			f.requireRefused("/events?topic="+strings.Join(thousands[100:111], "&topic="), 503, "too_many_topics_total")
		}},
		{"message too long", "close 1009", func(f *fixture) {
			ws := f.dial("/ws")
			f.send(ws, strings.Repeat("x", 4097))
			require.EqualValues(f.t, gateway.CodeTooBig, f.code(ws))
		}},
		{"garbage for JSON, and binary", "error bad_request", func(f *fixture) {
			ws := f.dial("/ws")
			f.send(ws, strings.Repeat("[", 4096))
			require.Contains(f.t, f.read(ws), "bad_request")
			require.NoError(f.t, ws.Write(f.ctx(), 2, []byte(`{"op":"ping"}`)))
			require.Contains(f.t, f.read(ws), "bad_request")
		}},
		{"frame that breaks the protocol", "close 1002", func(f *fixture) {
			ws := f.dialRaw("/ws", 4096)
			_, err := ws.conn.Write([]byte{0xff, 0x80, 0, 0, 0, 0})
			require.NoError(f.t, err)
			require.Equal(f.t, 1002, ws.code(nil))
		}},
		{"flood of messages", "close 4029", func(f *fixture) {
			ws := f.dialRaw("/ws", 4096)
			go func() {
				for ws.sendFrame(opText, `{"op":"ping"}`) == nil {
				}
			}()
			require.Equal(f.t, gateway.CodeFlood, ws.code(nil))
		}},
		{"flood of operations", "error too_many_operations", func(f *fixture) {
			f.holdListener()
			ws := f.dialRaw("/ws", 4096)
			for i := range 80 {
				require.NoError(f.t, ws.sendFrame(opText, fmt.Sprintf(`{"op":"subscribe","id":%d,"topics":["t"]}`, i)))
			}
			data, err := ws.readText(make([]byte, 4096))
			require.NoError(f.t, err)
			require.Contains(f.t, string(data), "too_many_operations")
		}},
		{"messages on /listen", "nothing", func(f *fixture) {
			ws := f.dial("/listen/t")
			f.send(ws, "hello?")
			f.notify("t", "x")
			f.expect(ws, "x")
		}},
		{"too many clients of one address", "429 too_many_from_address", func(f *fixture) {
			for range 5 {
				f.dial("/ws")
			}
			answers(429, "too_many_from_address", "GET", "/ws", "", handshake)(f)
		}},
		{"client that goes while it waits for LISTEN", "nothing is left of it", func(f *fixture) {
			f.holdListener()
			req, err := http.NewRequestWithContext(f.ctx(), "GET", f.url("/events?topic=t"), nil)
			require.NoError(f.t, err)
			go func() { _, _ = http.DefaultClient.Do(req) }() //nolint:bodyclose // it is cut off
			eventually(f.t, "it waits", func() bool { return f.gw.Stats().Streams == 1 })
			f.http.CloseClientConnections()
			eventually(f.t, "it has left", func() bool { return f.gw.Stats().Streams == 0 })
		}},
	} {
		t.Run(test.input, func(t *testing.T) {
			f := newFixture(t, cfg)
			test.try(f)
			t.Logf("%-45s %s", test.input, test.gets)
		})
	}
}

// A client that is not there any more, or does not answer, is cut, and nothing is left of it.
func TestSilentClientIsCut(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, PingInterval: 20 * time.Millisecond, PingTimeout: 200 * time.Millisecond})
	f.dialRaw("/listen/t", 4096)
	eventually(t, "it is cut", func() bool { return f.gw.Stats().Closed["silent"] == 1 })
	eventually(t, "it has left", func() bool { return f.listening() == 0 })
}

func TestTooManyClients(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxClients: 3})
	for range 3 {
		f.dial("/ws")
	}
	status, name := f.refused("GET", "/ws", "", handshake)
	require.Equal(t, 503, status)
	require.Equal(t, "too_many_clients", name)
}

// publish sends events of some kilobytes each, with the keys from first to last.
func (f *fixture) publish(topic string, first, last int) {
	f.t.Helper()
	_, err := f.pool.Exec(f.ctx(), `SELECT pg_notify($1, 'e' || i || ':"' || repeat('x', 7000) || '"') FROM generate_series($2::int, $3) AS i`, topic, first, last)
	require.NoError(f.t, err)
}

func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxPending: 1 << 20, MaxPendingTotal: 1, WriteTimeout: time.Hour, SlowTimeout: time.Hour})
	slow, quick := f.dialRaw("/listen/t?format=event", 64<<10), f.dial("/listen/t?format=event")
	f.read(quick) // subscribe
	const total, part = 2000, 50
	for key := 1; key <= total; key++ {
		if key%part == 1 {
			f.publish("t", key, key+part-1)
		}
		require.Contains(t, f.read(quick), fmt.Sprintf(`"key":[%d]`, key), "the slow one does it no harm")
	}
	eventually(t, "events are dropped", func() bool { return f.gw.Stats().Dropped > 0 && f.hub.Stats().Received == total })
	f.notify("t", "e0")

	// Now the slow one reads: every event is there, or counted at its place.
	next, lost := int64(1), uint64(0)
	buf := make([]byte, 64<<10)
	for {
		data, err := slow.readText(buf)
		require.NoError(t, err)
		var m struct {
			Topic *string
			Key   []int64
			Value any
		}
		require.NoError(t, json.Unmarshal(data, &m))
		if m.Topic == nil {
			advice := m.Value.(map[string]any)
			if advice["action"] == "lag" {
				dropped := uint64(advice["dropped"].(float64))
				lost += dropped
				next += int64(dropped)
			}
			continue
		}
		if m.Key[0] == 0 {
			break
		}
		require.Equal(t, next, m.Key[0])
		next++
	}
	require.EqualValues(t, total+1, next)
	require.Equal(t, lost, f.gw.Stats().Dropped)
	require.NotZero(t, lost)
}

func TestClientThatStaysSlowIsClosed(t *testing.T) {
	for _, format := range []string{"event", "payload"} {
		t.Run(format, func(t *testing.T) {
			f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxPending: 64 << 10, SlowTimeout: time.Nanosecond, WriteTimeout: time.Hour})
			slow := f.dialRaw("/listen/t?format="+format, 64<<10)
			f.publish("t", 1, 2000)
			eventually(t, "it is found slow", func() bool { return f.gw.Stats().Closed["slow"] == 1 })
			lag := false
			require.Equal(t, gateway.CodeSlow, slow.code(func(m []byte) { lag = lag || strings.Contains(string(m), `"action":"lag"`) }))
			require.Equal(t, format == "event", lag)
			eventually(t, "it has left", func() bool { return f.gw.Stats().WebSockets == 0 })
		})
	}
}

func TestStuckReaderIsCut(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: 500 * time.Millisecond})
	f.dialRaw("/listen/t", 4096)
	stream := f.stream("topic=t", nil) // reads nothing from here on
	require.Contains(t, stream.next(), "retry")
	f.publish("t", 1, 3000)
	eventually(t, "both have left", func() bool { st := f.gw.Stats(); return st.WebSockets+st.Streams == 0 })
}
