package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// lost is a gateway with positions from which not everything can be had, by the reason, each with a topic that has no event after the gap.
type lost struct {
	*fixture
	positions map[string]struct{ topic, id string }
	publish   func(topic string, n int)
}

func newLost(t *testing.T) *lost {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 4})
	s := f.stream("topic=a&topic=plain", nil)
	_, _ = s.until("subscribe")
	p.publish(t, "a", 1)
	f.notify("plain", "e:0")
	_, last := s.some(2)
	for n := range 5 {
		f.notify("plain", fmt.Sprintf("e:%d", n))
	}
	_, _ = s.some(5)
	require.NoError(t, s.close())
	position, number, both := strings.Cut(last.id, "~")
	require.True(t, both)
	at, err := pghub.ParsePosition(position)
	require.NoError(t, err)
	at.Tick += 1_000_000
	return &lost{f, map[string]struct{ topic, id string }{
		"expired": {"b", "1000000000001.1.1"},
		"foreign": {"a", at.String()},
		"history": {"plain", "~" + number},
		"unknown": {"plain", position},
	}, func(topic string, n int) {
		if topic == "plain" {
			f.notify(topic, fmt.Sprintf("e:%d", n))
			return
		}
		p.publish(t, topic, n)
	}}
}

// Who comes back with the id of a gap has it not again, however quiet the topic is.
func TestAnEventStreamHasAGapOnce(t *testing.T) {
	f := newLost(t)
	for reason, from := range f.positions {
		s := f.stream("topic="+from.topic, since(from.id))
		_, lag := s.until("lag")
		require.Equal(t, reason, parsed(t, lag.data).Reason)
		require.NoError(t, s.close())
		s = f.stream("topic="+from.topic, since(lag.id))
		_, _ = s.until("subscribe")
		f.publish(from.topic, 7)
		for m := (message{}); m.Topic == nil; {
			b, more := s.block()
			require.True(t, more)
			m = parsed(t, b.data)
			require.NotEqual(t, "lag", m.Action, reason)
		}
		require.NoError(t, s.close())
	}
}

func TestAWebSocketHasAGapOnce(t *testing.T) {
	f := newLost(t)
	for reason, from := range f.positions {
		ws := f.dial("/ws")
		subscribe := fmt.Sprintf(`{"op":"subscribe","topics":[%q],"since":`, from.topic)
		f.send(ws, subscribe+fmt.Sprintf("%q}", from.id))
		m := parsed(t, f.read(ws))
		for ; m.Action != "lag"; m = parsed(t, f.read(ws)) {
		}
		require.Equal(t, reason, m.Reason)
		require.NoError(t, ws.CloseNow())
		require.NotEmpty(t, m.ID, reason)
		ws = f.dial("/ws")
		f.send(ws, subscribe+string(m.ID)+"}")
		for m = parsed(t, f.read(ws)); m.Topic == nil; m = parsed(t, f.read(ws)) {
			require.NotEqual(t, "lag", m.Action, reason)
			if m.Op == "subscribed" {
				f.publish(from.topic, 7)
			}
		}
		require.NoError(t, ws.CloseNow())
	}
}

// However often the connection is lost, a topic on which nothing happens has a gap once.
func TestClientInNodeHasAGapOnce(t *testing.T) {
	f := newLost(t)
	proxy := f.behindProxy()
	for reason, from := range f.positions {
		next := node(t, f.url("/"), 1, from.topic, "since="+from.id)
		var got []line
		for begun := false; !begun || len(got) == 0; {
			l, more := next()
			require.True(t, more)
			if l.State == "" {
				got = append(got, l)
			}
			begun = begun || l.State == "subscribed"
		}
		require.Equal(t, []line{{Type: "gap", Reason: reason}}, got)
		for range 2 {
			proxy.Reset()
			require.Empty(t, awaited(t, next, "subscribed"), reason)
		}
		f.publish(from.topic, 7)
		require.Equal(t, []string{from.topic + "7"}, someEvents(t, next, 1), reason)
	}
}
