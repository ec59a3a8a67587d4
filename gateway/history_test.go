package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

func TestHistory(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 4})
	s := f.stream("topic=a&topic=b", nil)
	_, begun := s.until("subscribe")
	require.Regexp(t, `^~[a-z0-9]+\.\d+$`, begun.id)
	f.notify("a", "e1:1")
	_, last := s.some(1)
	require.NoError(t, s.close())
	eventually(t, "nobody is there", func() bool { return f.gw.Stats().Streams == 0 })
	f.notify("a", "e2:2")
	f.notify("b", "e3:3")
	f.notify("c", "e4:4") // nobody has asked for it
	f.notify("b", "not of pghub")

	s = f.stream("topic=a&topic=b", since(last.id))
	values, _ := s.some(3)
	require.Equal(t, []string{"a2", "b3", "bnull"}, values)
	f.notify("a", "e5:5")
	f.notify("a", "e6:6")
	values, _ = s.some(2)
	require.Equal(t, []string{"a5", "a6"}, values)
	require.NoError(t, s.close())

	// It has room for four; what is further back is said to be missing, to those who miss it.
	_, lag := f.stream("topic=a&topic=b", since(last.id)).until("lag")
	require.Equal(t, "history", parsed(t, lag.data).Reason)
	values, _ = f.stream("topic=b", since(last.id)).until("live")
	require.Equal(t, []string{"b3", "bnull"}, values, "of b nothing has gone yet")

	// A number of another process is one of another history.
	_, number, _ := strings.Cut(last.id, ".")
	_, lag = f.stream("topic=b", since("~otherproce."+number)).until("lag")
	require.Equal(t, "history", parsed(t, lag.data).Reason)

	// On a WebSocket.
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["b"],"since":"`+last.id+`"}`)
	var got []string
	for len(got) < 2 {
		if m := parsed(t, f.read(ws)); m.Topic != nil {
			got = append(got, string(m.Value))
		}
	}
	require.Equal(t, []string{"3", "null"}, got)
}

// A lost connection is a gap for those who were away, too.
func TestHistoryHasGaps(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100})
	s := f.stream("topic=a", nil)
	f.notify("a", "e:1")
	_, last := s.some(1)
	require.NoError(t, s.close())
	eventually(t, "nobody is there", func() bool { return f.gw.Stats().Streams == 0 })
	before := f.hub.Stats().Reconnects
	_, err := f.pool.Exec(f.ctx(), "SELECT pg_terminate_backend($1)", f.hub.Stats().PID)
	require.NoError(t, err)
	eventually(t, "it is back", func() bool { return f.hub.Stats().Reconnects > before })
	_, lag := f.stream("topic=a", since(last.id)).until("lag")
	require.Equal(t, "history", parsed(t, lag.data).Reason)
}

// A topic that nobody has come back for is not listened to any more.
func TestHistoryEnds(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100, HistoryLinger: time.Millisecond})
	s := f.stream("topic=a", nil)
	f.notify("a", "e:1")
	_, last := s.some(1)
	require.Equal(t, 1, f.listening())
	require.NoError(t, s.close())
	eventually(t, "nobody listens", func() bool { return f.listening() == 0 })
	_, lag := f.stream("topic=a", since(last.id)).until("lag")
	require.Equal(t, "history", parsed(t, lag.data).Reason)
}

// Without a past there is nothing to come back to.
func TestNoPast(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","id":1,"topics":["a"],"since":"~x.1"}`)
	require.Equal(t, "no_history", parsed(t, f.read(ws)).Error)
	status, name := f.refused("GET", "/events?topic=a&since=earliest", "", nil)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "no_history", name)
}

// However far behind a client is, it costs no more than its share, and gets all, in order: also beside a topic whose events have to be
// dropped.
func TestSlowReaderOfAStreamLosesNothing(t *testing.T) {
	for name, beside := range map[string]int{"alone": 0, "beside another topic": 3000} {
		t.Run(name, func(t *testing.T) {
			f, p := newStreamFixture(t, gateway.Config{
				Topics: []string{"*"}, MaxPending: 64 << 10, MaxPendingTotal: 64 << 10, SlowTimeout: 10 * time.Minute, WriteTimeout: 10 * time.Minute,
			})
			slow := f.dialRaw("/ws", 256<<10) // a smaller one makes the reading slow, too
			require.NoError(t, slow.sendFrame(1, `{"op":"subscribe","topics":["a","other"]}`))
			buf := make([]byte, 64<<10)
			read := func() string {
				data, err := slow.readText(buf)
				require.NoError(t, err)
				return string(data)
			}
			for !strings.Contains(read(), `"subscribed"`) {
			}
			const events, size = 1000, 2000 // 2 MB: far more than the systems of both sides keep
			_, err := p.pool.Exec(f.ctx(), `SELECT pghub.publish('a', n, to_json(n || repeat('x', $2))) FROM generate_series(1, $1::int) n`, events, size)
			require.NoError(t, err)
			eventually(t, "it has fallen behind", func() bool { return f.gw.Stats().Replays == 1 })
			require.Less(t, f.gw.Stats().Pending*size, 1<<18)
			_, err = p.pool.Exec(f.ctx(), `SELECT pg_notify('other', 'e' || n || ':"' || repeat('x', 1000) || '"') FROM generate_series(1, $1::int) n`, beside)
			require.NoError(t, err)
			if beside > 0 {
				eventually(t, "there is no room for all of the other topic", func() bool { return f.gw.Stats().Dropped > 0 })
			}
			for want := 1; want <= events; {
				switch text := read(); {
				case strings.HasPrefix(text, fmt.Sprintf(`{"topic":"a","key":[%d],`, want)):
					want++
				case beside > 0 && (strings.HasPrefix(text, `{"topic":"other",`) || strings.Contains(text, `"lag"`)):
				default:
					require.Contains(t, text, `"topic":null`, "after %d", want-1)
					require.NotContains(t, text, `"lag"`)
				}
			}
			if beside == 0 {
				require.Zero(t, f.gw.Stats().Dropped)
			}
			require.NotZero(t, f.gw.Stats().Replayed)
		})
	}
}

// Topics that are kept for those who come back do not pass the limit, and those whose events nobody remembers are not kept.
func TestKeptTopicsHaveALimit(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100, MaxTopicsTotal: 10, MaxRate: -1})
	ws := f.dial("/ws")
	var last message
	for n := range 50 {
		last = f.asked(ws, fmt.Sprintf(`{"op":"subscribe","topics":["t%d"]}`, n))
		require.Equal(t, "unsubscribed", f.asked(ws, fmt.Sprintf(`{"op":"unsubscribe","topics":["t%d"]}`, n)).Op)
	}
	eventually(t, "the oldest are left", func() bool { return f.listening() == 10 })
	values, _ := f.stream("topic=t49", since(last.Since)).until("live")
	require.Empty(t, values)

	f, _ = newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	ws = f.dial("/ws")
	before := f.listening()
	require.Equal(t, "subscribed", f.asked(ws, `{"op":"subscribe","topics":["a","plain"]}`).Op)
	require.Equal(t, before+2, f.listening())
	require.Equal(t, "unsubscribed", f.asked(ws, `{"op":"unsubscribe","topics":["a","plain"]}`).Op)
	eventually(t, "one is left", func() bool { return f.listening() == before+1 })
}
