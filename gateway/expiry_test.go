package gateway_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// What a client is allowed ends, and the client with it, unless it is allowed again.
func TestExpiry(t *testing.T) {
	var revoked, extended, asked atomic.Int64
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"},
		Authorize: func(r *http.Request, _ gateway.Access) error {
			if r.URL.Query().Get("user") == "revoked" && revoked.Load() > 0 {
				return gateway.Refuse(http.StatusUnauthorized, "the token has expired")
			}
			return nil
		},
		Expires: func(r *http.Request) time.Time {
			switch r.URL.Query().Get("user") {
			case "": // for ever
				return time.Time{}
			case "extended":
				if extended.Add(1) > 5 {
					return time.Unix(1, 0) // not later any more
				}
			}
			asked.Add(1)
			return time.Now().Add(10 * time.Millisecond)
		},
	})
	stays := f.dial("/listen/t")
	extendedly := f.dial("/listen/t?user=extended")
	topic, topics, none := f.dial("/listen/t?user=revoked"), f.dial("/ws?user=revoked"), f.dial("/ws?user=revoked")
	f.send(topics, `{"op":"subscribe","id":1,"topics":["a","b"]}`)
	require.Contains(t, f.answer(topics), "subscribed")
	s := f.stream("topic=t&user=revoked", nil)
	require.Contains(t, s.next(), "retry")
	eventually(t, "it is asked again and again", func() bool { return asked.Load() > 20 && extended.Load() == 6 })
	require.Zero(t, f.gw.Stats().Closed["expired"])

	revoked.Store(1)
	require.EqualValues(t, gateway.CodeExpired, f.code(topic))
	require.EqualValues(t, gateway.CodeExpired, f.code(topics))
	require.EqualValues(t, gateway.CodeExpired, f.code(none))
	for block := s.next(); block != "END"; block = s.next() {
		require.NotContains(t, block, "close")
	}
	require.EqualValues(t, 4, f.gw.Stats().Closed["expired"])
	f.notify("t", "x")
	f.expect(stays, "x")
	f.expect(extendedly, "x")
	status, _ := f.refused("GET", "/events?topic=t&user=revoked", "", nil)
	require.Equal(t, http.StatusUnauthorized, status)
}

// One who leaves is not asked about any more, and whoever cannot say until when has no time at all.
func TestExpiryOfThoseWhoLeave(t *testing.T) {
	var asked, forgotten atomic.Int64
	f := newFixture(t, gateway.Config{
		Topics:    []string{"*"},
		Authorize: func(r *http.Request, _ gateway.Access) error { asked.Add(1); return nil },
		Expires: func(r *http.Request) time.Time {
			switch r.URL.Query().Get("user") {
			case "unknown":
				panic("no time")
			case "forgotten":
				if forgotten.Add(1) > 1 {
					panic("no time any more")
				}
				return time.Now()
			}
			return time.Now().Add(time.Hour)
		},
	})
	ws := f.dial("/listen/t")
	require.NoError(t, ws.CloseNow())
	f.requireNothingLeft()
	require.EqualValues(t, 1, asked.Load())
	status, name := f.refused("GET", "/listen/t?user=unknown", "", handshake)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, "internal", name)
	require.EqualValues(t, gateway.CodeExpired, f.code(f.dial("/listen/t?user=forgotten")))
	f.requireNothingLeft()
}
