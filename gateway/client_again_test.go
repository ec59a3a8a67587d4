package gateway_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/faultproxy"
)

// awaited reads what a client in Node says up to a state, and returns what there was besides states.
func awaited(t *testing.T, next func() (line, bool), state string) (others []line) {
	t.Helper()
	for {
		l, more := next()
		require.True(t, more)
		switch l.State {
		case state:
			return others
		case "":
			others = append(others, l)
		}
	}
}

// A topic that is left and subscribed to at once begins where the second subscription says, without the first one's events.
func TestClientInNodeSubscribesAgain(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a"}, HistoryEvents: 100})
	next := saying(t, nodeCommand(t, "resubscribe.mjs", clientFile(t), f.url("/")))
	awaited(t, next, "ready")
	f.notify("a", "e:0")
	awaited(t, next, "holding")
	for _, payload := range []string{"e:1", "e:2", `e:"end"`} {
		f.notify("a", payload)
	}
	require.Equal(t, []string{"a0", "a1", "a2", `a"end"`}, someEvents(t, next, 4))
	l, more := next()
	require.False(t, more, "%+v", l)
}

// So does one that a pattern stands for which was left before the gateway has named its topics.
func TestClientInNodeLeavesAPatternAndBegins(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a", "b"}, HistoryEvents: 100})
	s := f.stream("topic=a", nil)
	_, _ = s.until("subscribe") // so that it is remembered
	f.notify("a", "e:1")
	f.notify("a", "e:2")
	_, _ = s.some(2)
	next := saying(t, nodeCommand(t, "leftpattern.mjs", clientFile(t), f.url("/")))
	got := awaited(t, next, "ready")
	f.notify("a", `e:"end"`)
	for l, more := next(); more; l, more = next() {
		got = append(got, l)
	}
	values := []string{}
	for _, l := range got {
		values = append(values, l.Type+l.Value)
	}
	require.Equal(t, []string{"event1", "event2", `event"end"`}, values)
}

// A gateway that is new has not what the last one remembered, once: from then on it remembers itself.
func TestClientInNodeHasOneGapOfARestart(t *testing.T) {
	cfg := gateway.Config{Topics: []string{"a"}, HistoryEvents: 100}
	f := newFixture(t, cfg)
	second, err := gateway.New(f.hub, cfg)
	require.NoError(t, err)
	var now switched
	now.Store(f.gw)
	server := httptest.NewServer(&now)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waiting)
		defer cancel()
		require.NoError(t, second.Shutdown(ctx))
		server.CloseClientConnections()
		server.Close()
	})
	proxy, err := faultproxy.New(server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	next := node(t, "http://"+proxy.Addr()+"/", 1, "a")
	awaited(t, next, "ready")
	f.notify("a", "e:1")
	require.Equal(t, []string{"a1"}, someEvents(t, next, 1))
	now.Store(second)
	require.NoError(t, f.gw.Shutdown(f.ctx()))
	require.Equal(t, []line{{Type: "gap", Reason: "history"}}, awaited(t, next, "subscribed"))
	for range 2 {
		proxy.Reset()
		require.Empty(t, awaited(t, next, "subscribed"))
	}
	f.notify("a", "e:2")
	require.Equal(t, []string{"a2"}, someEvents(t, next, 1))
}

// Where nothing is kept, who wants the past is told that it is missing.
func TestClientInNodeIsToldThatNothingIsKept(t *testing.T) {
	unknown := line{Type: "gap", Reason: "unknown"}
	for topic, want := range map[string][]line{"a": {unknown}, "[ab]": {unknown, unknown}} {
		f := newFixture(t, gateway.Config{Topics: []string{"a", "b"}})
		next := node(t, f.url("/"), 1, topic, "since=earliest")
		require.Equal(t, want, awaited(t, next, "subscribed"))
		f.notify("a", "e:1")
		require.Equal(t, []string{"a1"}, someEvents(t, next, 1))
	}
}

// scripted runs cases of client/scripted.mjs.
func scripted(t *testing.T, cases ...string) {
	t.Helper()
	cmd := nodeCommand(t, "scripted.mjs", append([]string{clientFile(t)}, cases...)...)
	limit := time.AfterFunc(3*waiting, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, strings.Join(cases, "\n")+"\n", string(out))
}

func TestClientNoticesThatNobodyIsThere(t *testing.T) {
	scripted(t, "silent", "alive", "twoPings")
}

func TestClientLeavesATopicWhole(t *testing.T) {
	scripted(t, "leftBehind", "notLeft", "patternLeft")
}

func TestClientTriesAgainToLeave(t *testing.T) {
	scripted(t, "leftLater")
}

func TestClientLeavesWhatItBegins(t *testing.T) {
	scripted(t, "patternLeftAndBegun", "leftAndBegun", "patternBetween")
}
