package gateway_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// asked sends an operation and returns its answer, without what comes before it.
func (f *fixture) asked(ws *websocket.Conn, operation string) message {
	f.t.Helper()
	f.send(ws, operation)
	for {
		if m := parsed(f.t, f.read(ws)); m.Op != "" {
			return m
		}
	}
}

// brought returns a function that waits for the next event of a topic to have been brought to the hub. The gateway has no part in it.
func (p *process) brought(t *testing.T, topic string) (next func() pghub.Position) {
	t.Helper()
	events := make(chan pghub.Position, 100)
	c, err := p.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Record != nil {
			events <- ev.Record.Position
		}
	}, nil)
	require.NoError(t, err)
	require.NoError(t, c.Subscribe(t.Context(), topic))
	return func() pghub.Position {
		select {
		case at := <-events:
			return at
		case <-time.After(waiting):
			t.Fatal("nothing was brought")
			return pghub.Position{}
		}
	}
}

// Events of a topic that no client of this gateway followed are behind the position that its clients were given.
func TestReplayOfATopicThatNobodyFollowed(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	brought := p.brought(t, "b")
	ws := f.dial("/ws")
	begun := f.asked(ws, `{"op":"subscribe","topics":["a"]}`)
	p.publish(t, "b", 1)
	at := brought()

	f.send(ws, `{"op":"subscribe","topics":["b"],"since":"`+begun.Since+`"}`)
	m := parsed(t, f.read(ws))
	for m.Topic == nil {
		require.NotEqual(t, "live", m.Action, "the event is lost")
		m = parsed(t, f.read(ws))
	}
	require.Equal(t, "b1", *m.Topic+string(m.Value))
	require.Equal(t, at.String(), strings.Trim(string(m.ID), `"`))
}

// The first client of a topic begins where the stream is then, not where others' topics have come to.
func TestTheFirstClientOfATopicBeginsNow(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	brought := p.brought(t, "b")
	require.Equal(t, "subscribed", f.asked(f.dial("/ws"), `{"op":"subscribe","topics":["a"]}`).Op)
	p.publish(t, "b", 1)
	before := brought()
	begun := f.asked(f.dial("/ws"), `{"op":"subscribe","topics":["b"]}`)
	at, err := pghub.ParsePosition(begun.Since)
	require.NoError(t, err)
	require.GreaterOrEqual(t, at.Compare(before), 0, "%v is before an event that was there", at)
}
