package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
)

// A page whose name its owner has pointed at this machine is same-origin to the browser, and its requests for data carry no
// Origin: only the name of the host tells.
func TestHosts(t *testing.T) {
	pgtest.CheckLeaks(t)
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, pgtest.Database(t))})
	require.NoError(t, err)
	ask := func(hosts []string, local net.Addr, method, path, host string) int {
		gw, err := gateway.New(hub, gateway.Config{Publish: []string{"*"}, Hosts: hosts})
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		r = r.WithContext(withLocal(r, local))
		r.Host = host
		if method == "POST" && host != "" {
			r.Header.Set("Origin", "http://"+host)
		}
		w := httptest.NewRecorder()
		gw.ServeHTTP(w, r)
		if w.Code == http.StatusForbidden {
			require.Contains(t, w.Body.String(), "host_not_allowed")
		}
		return w.Code
	}
	loopback, loopback6 := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}, &net.TCPAddr{IP: net.IPv6loopback, Port: 8080}
	outside := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8080}
	socket := &net.UnixAddr{Name: "/run/pghub", Net: "unix"}
	for _, test := range []struct {
		hosts []string
		local net.Addr
		host  string
		in    bool
	}{
		{nil, loopback, "evil.example:8080", false},
		{nil, loopback, "evil.example", false},
		{nil, loopback, "localhost.evil.example", false},
		{nil, loopback, "192.0.2.1", false},
		{nil, loopback, "127.0.0.1:8080", true},
		{nil, loopback, "127.1.2.3", true},
		{nil, loopback, "LocalHost:8080", true},
		{nil, loopback, "localhost.", true},
		{nil, loopback, "app.localhost:8080", true},
		{nil, loopback, "[::1]:8080", true},
		{nil, loopback, "", true}, // no browser sends that
		{nil, loopback6, "[::1]", true},
		{nil, loopback6, "evil.example", false},
		{nil, outside, "any.example", true},
		{nil, socket, "any.example", true},
		{[]string{"app.example.com", "*.internal"}, loopback, "app.example.com:8080", true},
		{[]string{"app.example.com", "*.internal"}, loopback, "APP.example.com", true},
		{[]string{"app.example.com", "*.internal"}, outside, "a.internal", true},
		{[]string{"app.example.com"}, outside, "evil.example", false},
		{[]string{"app.example.com"}, loopback, "127.0.0.1", false},
		{[]string{"app.example.com"}, loopback, "", false},
		{[]string{"*"}, loopback, "evil.example", true},
		{[]string{"::1"}, loopback6, "[::1]:8080", true},
	} {
		for _, route := range []struct{ method, path string }{{"GET", "/stats"}, {"GET", "/"}, {"POST", "/notify/t"}} {
			status := ask(test.hosts, test.local, route.method, route.path, test.host)
			require.Equal(t, test.in, status != http.StatusForbidden, "%+v %v", test, route)
		}
		require.Equal(t, http.StatusOK, ask(test.hosts, test.local, "GET", "/healthz", test.host), "who looks whether it lives uses addresses")
	}
}

func withLocal(r *http.Request, local net.Addr) context.Context {
	return context.WithValue(r.Context(), http.LocalAddrContextKey, local)
}

func TestMistakesInTheConfigAreNamed(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	for _, test := range []struct {
		cfg  gateway.Config
		says string
	}{
		{gateway.Config{Origins: []string{"*"}, AllowCredentials: true}, "AllowCredentials"},
		{gateway.Config{Origins: []string{"a.example", "https://*"}, AllowCredentials: true}, `"https://*"`},
		{gateway.Config{Origins: []string{"*://*"}, AllowCredentials: true}, `"*://*"`},
		{gateway.Config{Origins: []string{"?*"}, AllowCredentials: true}, `"?*"`},
		{gateway.Config{Origins: []string{"*.*"}, AllowCredentials: true}, `"*.*"`},
		{gateway.Config{Origins: []string{"https://app.example.com/"}}, `"https://app.example.com/"`},
		{gateway.Config{Origins: []string{"app.example.com/"}}, "path"},
		{gateway.Config{Origins: []string{"https://app.example.com/page"}}, "path"},
		{gateway.Config{Origins: []string{""}}, "origins"},
		{gateway.Config{Hosts: []string{"["}}, "hosts"},
		{gateway.Config{Hosts: []string{""}}, "hosts"},
		{gateway.Config{Hosts: []string{"https://app.example.com"}}, `"https://app.example.com"`},
		{gateway.Config{Hosts: []string{"app.example.com:80"}}, `"app.example.com:80"`},
		{gateway.Config{WriteTimeout: -1}, "WriteTimeout"},
		{gateway.Config{SlowTimeout: -1}, "SlowTimeout"},
		{gateway.Config{PingInterval: -1}, "PingInterval"},
		{gateway.Config{PingTimeout: -1}, "PingTimeout"},
		{gateway.Config{Heartbeat: -1}, "Heartbeat"},
		{gateway.Config{Retry: -1}, "Retry"},
		{gateway.Config{SubscribeTimeout: -1}, "SubscribeTimeout"},
		{gateway.Config{PublishTimeout: -1}, "PublishTimeout"},
		{gateway.Config{ReadTimeout: -1}, "ReadTimeout"},
		{gateway.Config{HistoryLinger: -1}, "HistoryLinger"},
		{gateway.Config{HistoryEvents: -1}, "HistoryEvents"},
	} {
		_, err := gateway.New(f.hub, test.cfg)
		require.ErrorContains(t, err, test.says, "%+v", test.cfg)
	}
	for _, cfg := range []gateway.Config{
		{Origins: []string{"*"}},
		{Origins: []string{"*.example.com", "https://app.example.com:8443"}, AllowCredentials: true},
		{Hosts: []string{"app.example.com", "*.internal", "::1", "10.0.0.1"}},
	} {
		_, err := gateway.New(f.hub, cfg)
		require.NoError(t, err, "%+v", cfg)
	}
}

// The page is made from its template, which is nobody's business.
func TestViewerServesNoTemplate(t *testing.T) {
	f := newFixture(t, gateway.Config{})
	for _, path := range []string{"/viewer/", "/viewer", "/viewer/index.html", "/viewer/nothing.js"} {
		require.Equal(t, http.StatusNotFound, f.get("GET", path, nil).StatusCode, path)
	}
	for path, kind := range map[string]string{"/": "text/html", "/viewer/style.css": "text/css", "/viewer/viewer.js": "text/javascript"} {
		resp := f.get("GET", path, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, resp.Header.Get("Content-Type"), kind, path)
	}
}
