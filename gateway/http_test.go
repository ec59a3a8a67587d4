package gateway_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

func TestNotify(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Publish: []string{"open/*"}})
	ws := f.dial("/listen/open%2F1")
	for _, test := range []struct {
		path, body string
		status     int
		name       string
		payload    string
	}{
		{"/notify/open%2F1", `{"a":1}`, 204, "", `e:{"a":1}`},
		{"/notify/open%2F1?key=1,-2&key=3", `"x"`, 204, "", `e1,-2,3:"x"`},
		{"/notify/open%2F1?key=5", "", 204, "", "e5"},
		{"/notify/open%2F1?format=payload", "any ä text", 204, "", "any ä text"},
		{"/notify/open%2F1", "not JSON", 400, "bad_value", ""},
		{"/notify/open%2F1?key=x", "", 400, "bad_value", ""},
		{"/notify/open%2F1?key=9223372036854775808", "", 400, "bad_value", ""},
		{"/notify/open%2F1?format=payload", "nul\x00", 400, "bad_value", ""},
		{"/notify/open%2F1?format=payload", "\xff", 400, "bad_value", ""},
		{"/notify/open%2F1?format=payload", strings.Repeat("x", 7999), 204, "", strings.Repeat("x", 7999)},
		{"/notify/open%2F1?format=payload", strings.Repeat("x", 8000), 413, "too_large", ""},
		{"/notify/open%2F1", strings.Repeat("x", 1<<20), 413, "too_large", ""},
		{"/notify/open%2F1?format=xml", "", 400, "bad_request", ""},
		{"/notify/closed", "1", 403, "topic_not_allowed", ""},
		{"/notify/open%2F" + strings.Repeat("x", 59), "1", 400, "bad_topic", ""},
	} {
		status, name := f.refused("POST", test.path, test.body, nil)
		require.Equal(t, test.status, status, test.path)
		require.Equal(t, test.name, name, test.path)
		if status == 204 {
			f.expect(ws, test.payload)
		}
	}
}

func TestNotifyIsOffByDefault(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	status, _ := f.refused("POST", "/notify/t", "1", nil)
	require.Equal(t, http.StatusNotFound, status)
}

func TestNotifyDuringAnOutage(t *testing.T) {
	f, server := outage(t, gateway.Config{Publish: []string{"*"}})
	require.NoError(t, server.Stop(0))
	status, name := f.refused("POST", "/notify/t", "1", nil)
	require.Contains(t, []int{http.StatusServiceUnavailable, http.StatusGatewayTimeout}, status)
	require.Contains(t, []string{"not_connected", "unknown_outcome"}, name)
	require.NoError(t, server.Start(t.Context()))
}

func TestNothingIsOpenByDefault(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	for _, path := range []string{"/listen/t", "/subscribe/t", "/events?topic=t"} {
		status, name := f.refused("GET", path, "", handshake)
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, "topic_not_allowed", name)
	}
}

func TestAuthorize(t *testing.T) {
	users := map[string]string{"sesame": "42"}
	f := newFixture(t, gateway.Config{
		Topics: []string{"user_*", "broken"}, Publish: []string{"user_*"},
		Authorize: func(r *http.Request, a gateway.Access) error {
			user, known := users[r.URL.Query().Get("token")]
			switch {
			case !known:
				return gateway.Refuse(http.StatusUnauthorized, "a token is missing")
			case a.Topic == "broken":
				return errors.New(`FATAL: password authentication failed for user "secret"`)
			case a.Topic != "" && a.Topic != "user_"+user:
				return gateway.Refuse(http.StatusForbidden, "this is somebody else's")
			}
			return nil
		},
	})
	for _, test := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/listen/user_42", 401, "a token is missing"},
		{"GET", "/ws", 401, "a token is missing"},
		{"GET", "/events?topic=user_42", 401, "a token is missing"},
		{"GET", "/stats", 401, "a token is missing"},
		{"GET", "/metrics", 401, "a token is missing"},
		{"POST", "/notify/user_42", 401, "a token is missing"},
		{"GET", "/listen/user_43?token=sesame", 403, "this is somebody else's"},
		{"GET", "/events?token=sesame&topic=user_42&topic=user_43", 403, "this is somebody else's"},
		{"POST", "/notify/user_43?token=sesame", 403, "this is somebody else's"},
		{"GET", "/listen/broken?token=sesame", 403, "not authorised"},
		{"POST", "/notify/user_42?token=sesame", 204, ""},
		{"GET", "/stats?token=sesame", 200, ""},
	} {
		req, err := http.NewRequestWithContext(f.ctx(), test.method, f.url(test.path), nil)
		require.NoError(t, err)
		if test.method == "GET" {
			req.Header = handshake.Clone()
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, test.status, resp.StatusCode, test.path)
		require.Contains(t, string(body), test.message, test.path)
		require.NotContains(t, string(body), "FATAL")
		require.Equal(t, test.status == 401, resp.Header.Get("WWW-Authenticate") != "")
	}
	ws := f.dial("/ws?token=sesame")
	f.send(ws, `{"op":"subscribe","topics":["user_42"]}`)
	f.expectAny(ws, advisory(`{"action":"subscribe","topic":"user_42","final":false}`), `{"op":"subscribed","topics":["user_42"]}`)
	f.send(ws, `{"op":"subscribe","topics":["user_43"]}`)
	f.expect(ws, `{"op":"error","error":"not_authorized","message":"this is somebody else's","topic":"user_43"}`)
	f.send(ws, `{"op":"subscribe","topics":["broken"]}`)
	f.expect(ws, `{"op":"error","error":"not_authorized","message":"not authorised","topic":"broken"}`)
}

func TestOrigins(t *testing.T) {
	for _, test := range []struct {
		origins []string
		origin  string
		allowed bool
	}{
		{nil, "", true},
		{nil, "http://HOST", true},         // stands for the server's own
		{nil, "http://127.0.0.1:1", false}, // another port is another origin
		{nil, "https://evil.example", false},
		{nil, "null", false},
		{nil, "://", false},
		{[]string{"*.example.com"}, "https://app.Example.com", true},
		{[]string{"*.example.com"}, "https://example.com.evil", false},
		{[]string{"https://app.example.com"}, "http://app.example.com", false},
		{[]string{"https://app.example.com"}, "https://app.example.com", true},
		{[]string{"*"}, "https://any.example", true},
	} {
		f := newFixture(t, gateway.Config{Topics: []string{"*"}, Publish: []string{"*"}, Origins: test.origins})
		header := http.Header{}
		if test.origin != "" {
			header.Set("Origin", strings.Replace(test.origin, "HOST", strings.TrimPrefix(f.http.URL, "http://"), 1))
		}
		status, name := f.refused("POST", "/notify/t", "1", header)
		require.Equal(t, test.allowed, status == http.StatusNoContent, "POST, %+v", test)
		require.Equal(t, !test.allowed, name == "origin_not_allowed")
		ws, resp, err := websocket.Dial(f.ctx(), f.url("/ws"), &websocket.DialOptions{HTTPHeader: header})
		require.Equal(t, test.allowed, err == nil, "WebSocket, %+v", test)
		if err == nil {
			require.NoError(t, ws.CloseNow())
		} else {
			require.Equal(t, http.StatusForbidden, resp.StatusCode)
		}
		if test.allowed {
			s := f.stream("topic=t", header)
			require.Contains(t, s.next(), "retry")
			require.NoError(t, s.close())
		}
	}
}

func TestCORS(t *testing.T) {
	f := newFixture(t, gateway.Config{Publish: []string{"*"}, Origins: []string{"https://app.example.com"}, AllowCredentials: true})
	req, err := http.NewRequestWithContext(f.ctx(), http.MethodOptions, f.url("/notify/t"), nil)
	require.NoError(t, err)
	req.Header.Set("Origin", "https://app.example.com")
	req.Header.Set("Access-Control-Request-Method", "POST")
	req.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "https://app.example.com", resp.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", resp.Header.Get("Access-Control-Allow-Credentials"))
	require.Contains(t, resp.Header.Values("Vary"), "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
}

func TestStatistics(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	ws := f.dial("/listen/t")
	f.notify("t", "x")
	f.expect(ws, "x")
	f.refused("GET", "/listen/", "", nil)
	f.refused("GET", "/events", "", nil)
	eventually(t, "it is counted as sent", func() bool { return f.gw.Stats().Sent == 1 })

	var st gateway.Stats
	resp, err := http.Get(f.url("/stats"))
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&st))
	require.NoError(t, resp.Body.Close())
	require.Equal(t, gateway.Stats{
		State: "listening", Listening: true, WebSockets: 1, Topics: 1, Accepted: 1, Received: 1, Sent: 1,
		Closed: map[string]uint64{"slow": 0, "flood": 0, "silent": 0, "stuck": 0, "expired": 0}, Refused: map[string]uint64{"bad_request": 1},
	}, st)

	resp, err = http.Get(f.url("/metrics"))
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	for _, line := range []string{
		`pghub_gateway_listening 1`, `pghub_gateway_clients{transport="websocket"} 1`, `pghub_gateway_sent_total 1`,
		`pghub_gateway_refused_total{error="bad_request"} 1`, `pghub_gateway_excess_bytes 0`, `# TYPE go_goroutines gauge`,
	} {
		require.Contains(t, string(text), line+"\n")
	}
}

func TestViewerIsAllOfOnePiece(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	for _, path := range []string{"/", "/viewer/style.css", "/viewer/viewer.js"} {
		resp, err := http.Get(f.url(path))
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.NotRegexp(t, `(src|href)="(https?:)?//`, string(text), "nothing from elsewhere")
		require.NotContains(t, string(text), `id="publish"`, "publishing is off")
	}
	closed := newFixture(t, gateway.Config{NoViewer: true})
	status, _ := closed.refused("GET", "/", "", nil)
	require.Equal(t, http.StatusNotFound, status)
}

func TestThirdPartyClient(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	address := strings.Replace(f.url(""), "http", "ws", 1)
	ws, _, err := gorilla.DefaultDialer.DialContext(f.ctx(), address+"/listen/t", nil)
	require.NoError(t, err)
	f.notify("t", "payload")
	kind, data, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, gorilla.TextMessage, kind)
	require.Equal(t, "payload", string(data))
	require.NoError(t, ws.Close())

	ws, _, err = gorilla.DefaultDialer.DialContext(f.ctx(), address+"/ws", nil)
	require.NoError(t, err)
	require.NoError(t, ws.WriteJSON(map[string]any{"op": "ping", "id": 1}))
	_, data, err = ws.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, `{"op":"pong","id":1}`, string(data))
	go func() { _ = f.gw.Shutdown(f.ctx()) }()
	_, _, err = ws.ReadMessage() // close advisory
	require.NoError(t, err)
	_, _, err = ws.ReadMessage()
	require.True(t, gorilla.IsCloseError(err, gateway.CodeGoingAway), err)
	require.NoError(t, ws.Close())
}

func TestBehindAProxy(t *testing.T) {
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, MaxClientsPerAddress: 1,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
	})
	dial := func(forwarded string) int {
		ws, resp, err := websocket.Dial(f.ctx(), f.url("/ws"), &websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {forwarded}}})
		if err == nil {
			t.Cleanup(func() { _ = ws.CloseNow() })
		}
		return resp.StatusCode
	}
	require.Equal(t, 101, dial("203.0.113.7"))
	require.Equal(t, 429, dial("203.0.113.7"))
	require.Equal(t, 429, dial("198.51.100.1, 203.0.113.7, 10.1.2.3"), "what the client claims does not count")
	require.Equal(t, 101, dial("203.0.113.8, 10.1.2.3"))
	require.Equal(t, 101, dial("2001:db8::1"))
	require.Equal(t, 429, dial("2001:db8::2"), "one network")
	require.Equal(t, 101, dial("2001:db8:0:1::2"))
}

func TestConfigIsChecked(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	for _, cfg := range []gateway.Config{
		{Topics: []string{"[a"}}, {Topics: []string{""}}, {Publish: []string{"a\\"}}, {Origins: []string{"["}}, {PingInterval: -1},
	} {
		_, err := gateway.New(f.hub, cfg)
		require.Error(t, err)
	}
	_, err := gateway.New(nil, gateway.Config{})
	require.Error(t, err)
}
