package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// requireRefusedStream opens an event stream that is refused in the only way in which EventSource comes back: it opens, says
// why and when to come back, and ends.
func (f *fixture) requireRefusedStream(query, name string) {
	f.t.Helper()
	s := f.stream(query, nil)
	require.Regexp(f.t, `^retry: \d+$`, s.next())
	block := s.next()
	data, isRefusal := strings.CutPrefix(block, "event: refused|data: ")
	require.True(f.t, isRefusal, block)
	var problem struct{ Error, Message string }
	require.NoError(f.t, json.Unmarshal([]byte(data), &problem))
	require.Equal(f.t, name, problem.Error)
	require.NotEmpty(f.t, problem.Message)
	require.Equal(f.t, "END", s.next())
}

// requireRefused opens a client that is refused for now.
func (f *fixture) requireRefused(path string, status int, name string) {
	f.t.Helper()
	if query, isStream := strings.CutPrefix(path, "/events?"); isStream {
		f.requireRefusedStream(query, name)
		return
	}
	gotStatus, gotName := f.refused("GET", path, "", handshake)
	require.Equal(f.t, status, gotStatus, path)
	require.Equal(f.t, name, gotName, path)
}

// What another time may be possible is no reason for EventSource to stay away for ever.
func TestStreamsAreRefusedSoThatTheyComeBack(t *testing.T) {
	all := []string{"*"}
	for _, test := range []struct {
		name string
		cfg  gateway.Config
	}{
		{"too_many_clients", gateway.Config{Topics: all, MaxClients: 1}},
		{"too_many_from_address", gateway.Config{Topics: all, MaxClientsPerAddress: 1}},
		{"too_many_topics_total", gateway.Config{Topics: all, MaxTopicsTotal: 1}},
		{"too_many_topics_from_address", gateway.Config{Topics: all, MaxTopicsPerAddress: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, test.cfg)
			f.dial("/listen/t")
			f.requireRefusedStream("topic=u", test.name)
			require.Equal(t, 1, f.hub.Stats().Consumers, "it was refused before there was anything of it")
			st := f.gw.Stats()
			require.EqualValues(t, 1, st.Refused[test.name])
			require.Zero(t, st.Streams)
			require.Equal(t, 1, st.Topics)
		})
	}
	t.Run("shutting_down", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: all})
		require.NoError(t, f.gw.Shutdown(f.ctx()))
		f.requireRefusedStream("topic=t", "shutting_down")
		resp := f.get("GET", "/events?topic=t", nil)
		require.NotEmpty(t, resp.Header.Get("Retry-After"), "for other programs")
	})
	t.Run("not_connected", func(t *testing.T) {
		pgtest.CheckLeaks(t)
		hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, pgtest.Database(t))})
		require.NoError(t, err)
		gw, err := gateway.New(hub, gateway.Config{Topics: all})
		require.NoError(t, err)
		serve(t, hub, gw).requireRefusedStream("topic=t", "not_connected")
	})
	t.Run("for good", func(t *testing.T) {
		f := newFixture(t, gateway.Config{Topics: []string{"t"}, Retry: time.Second})
		status, name := f.refused("GET", "/events?topic=u", "", http.Header{"Accept": {"text/event-stream"}})
		require.Equal(t, http.StatusForbidden, status, "another time does not help")
		require.Equal(t, "topic_not_allowed", name)
	})
}
