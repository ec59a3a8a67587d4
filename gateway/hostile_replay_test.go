package gateway_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// Clients that ask for all there is and do not read, and one that asks again and again, do not keep others from theirs. What they cost is
// bounded, and nothing is left of them.
func TestHostileReplays(t *testing.T) {
	const events, size, hostile, maxPending = 400, 2000, 20, 64 << 10
	f, p := newStreamFixture(t, gateway.Config{
		Topics: []string{"*"}, MaxPending: maxPending, SlowTimeout: 10 * time.Minute, WriteTimeout: 10 * time.Minute, MaxRate: -1,
	})
	require.NoError(t, f.stream("topic=a", nil).close()) // what the gateway itself has begins with the first client
	eventually(t, "it has left", func() bool { return f.gw.Stats().Streams == 0 })
	before := f.hub.Stats()
	_, err := p.pool.Exec(f.ctx(), `SELECT pghub.publish('a', n, to_json(n || repeat('x', $2))) FROM generate_series(1, $1::int) n`, events, size)
	require.NoError(t, err)
	const all = `{"op":"subscribe","topics":["a"],"since":"earliest"}`
	var sockets []*rawSocket
	for range hostile { // none of them reads
		s := f.dialRaw("/ws", 4096)
		sockets = append(sockets, s)
		for range 3 {
			require.NoError(t, s.sendFrame(opText, all))
		}
	}
	again := f.dialRaw("/ws", 4096)
	for range 50 {
		require.NoError(t, again.sendFrame(opText, all))
		require.NoError(t, again.sendFrame(opText, `{"op":"unsubscribe","topics":["a"]}`))
	}
	eventually(t, "they are behind", func() bool { return f.gw.Stats().Replays >= hostile })

	ws := f.dial("/ws")
	ws.SetReadLimit(1 << 20)
	f.send(ws, all)
	p.publish(t, "a", events+1)
	for want := 1; want <= events+1; {
		text := f.read(ws)
		if strings.HasPrefix(text, `{"topic":"a",`) {
			require.Contains(t, text[:60], fmt.Sprint(want))
			want++
		}
	}
	require.LessOrEqual(t, f.gw.Stats().Pending*size, (hostile+2)*maxPending)
	require.Zero(t, f.gw.Stats().Closed["slow"])

	for _, s := range append(sockets, again) {
		require.NoError(t, s.conn.Close())
	}
	require.NoError(t, ws.CloseNow())
	eventually(t, "nothing is left of them", func() bool {
		st, hub := f.gw.Stats(), f.hub.Stats()
		return st.WebSockets == 0 && st.Topics == 0 && st.Replays == 0 && st.Pending == 0 && st.Excess == 0 &&
			hub.Consumers == before.Consumers && hub.Topics == before.Topics && hub.Listening == before.Listening
	})
}

// An id that nobody gave is a gap with its reason, and its client goes on from now. An operation whose text cannot be one is refused; an
// EventSource, which shows what it was given, may have it of another gateway.
func TestInventedIDs(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 10})
	extreme := strconv.FormatInt(math.MaxInt64, 10)
	const refused = "bad_request"
	for id, reason := range map[string]string{
		extreme + "." + extreme + "." + extreme: "foreign",
		"1000000000000.0.0":                     "expired",
		"~x." + extreme:                         "unknown",
		"-1.-1.-1":                              refused,
		"9" + extreme + ".1.1":                  refused,
		"'; DROP TABLE pghub.log; --":           refused,
		strings.Repeat("9", 2000):               refused,
	} {
		t.Run(id[:min(len(id), 30)], func(t *testing.T) {
			quoted, err := json.Marshal(id)
			require.NoError(t, err)
			ws := f.dial("/ws")
			f.send(ws, `{"op":"subscribe","topics":["a"],"since":`+string(quoted)+`}`)
			var got message
			for got.Reason == "" && got.Error == "" {
				got = parsed(t, f.read(ws))
			}
			require.Equal(t, reason, got.Reason+got.Error)
			require.NoError(t, ws.CloseNow())

			s := f.stream("topic=a", since(id))
			_, lag := s.until("lag")
			if reason == refused {
				reason = "unknown"
			}
			require.Equal(t, reason, parsed(t, lag.data).Reason)
			p.publish(t, "a", 7)
			values, _ := s.some(1)
			require.Equal(t, []string{"a7"}, values)
			require.NoError(t, s.close())
		})
	}
}
