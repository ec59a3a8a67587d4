package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// configured returns the server that arguments make.
func configured(t *testing.T, args ...string) server {
	t.Helper()
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PGHUB_") || name == "DATABASE_URL" {
			t.Setenv(name, "") // puts it back
			require.NoError(t, os.Unsetenv(name))
		}
	}
	return settings(t, func(cmd *cli.Command) server {
		s := server{logger: slog.New(slog.DiscardHandler)}
		require.NoError(t, s.configure(cmd))
		return s
	}, append([]string{"--database", "db", "serve"}, args...)...)
}

// Every flag, by a value of its own, comes to its place, and to no other.
func TestEveryFlagReachesItsPlace(t *testing.T) {
	var given []string
	args := []string{
		"--listen", "127.0.0.1:1", "--base-path", "/a/b/", "--topics", "t1,t2", "--publish", "p1", "--origins", "o1,o2", "--allow-credentials",
		"--trusted-proxies", "10.0.0.0/8,192.0.2.1", "--tls-cert", "cert", "--tls-key", "key", "--tls-client-ca", "ca", "--codec", "json", "--name", "n", "--no-viewer", "--hosts", "h1,h2",
		"--max-clients", "11", "--max-clients-per-address", "12", "--max-topics", "13", "--max-topics-total", "14", "--max-message", "15",
		"--max-rate", "16", "--max-pending", "17", "--grace", "21s", "--slow-timeout", "22s", "--write-timeout", "23s", "--ping-interval", "24s",
		"--ping-timeout", "25s", "--heartbeat", "26s", "--read-timeout", "27s", "--reconnect-max", "28s",
		"--max-topics-per-address", "18", "--max-pending-total", "19", "--token", "sesame",
		"--compress", "--access-log", "--stream", "s1,s2", "--history-events", "31", "--history-bytes", "32", "--history-linger", "33s",
	}
	for _, arg := range args {
		if name, is := strings.CutPrefix(arg, "--"); is {
			given = append(given, name)
		}
	}
	var known []string
	for _, flag := range newCommand(io.Discard, io.Discard).Commands[0].Flags {
		known = append(known, flag.Names()[0])
	}
	users := configured(t, "--topics", "t", "--jwt-key", "k", "--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-topics", "ct", "--jwt-publish", "cp")
	require.Equal(t, &tokens{keyFile: "k", issuer: "i", audience: "a", topics: "ct", publish: "cp"}, users.tokens)
	users = configured(t, "--topics", "t", "--jwt-jwks", "https://k")
	require.Equal(t, &tokens{keySet: "https://k", topics: "topics", publish: "publish"}, users.tokens)
	given = append(given, "jwt-key", "jwt-issuer", "jwt-audience", "jwt-topics", "jwt-publish", "jwt-jwks")
	require.ElementsMatch(t, known, given, "no flag is left out of this test")

	s := configured(t, args...)
	require.NotNil(t, s.gateway.Authorize)
	require.Nil(t, s.tokens)
	require.Same(t, s.logger, s.gateway.Logger)
	require.Same(t, s.logger, s.gateway.AccessLog)
	s.gateway.Authorize, s.gateway.Logger, s.gateway.AccessLog, s.logger = nil, nil, nil, nil // functions cannot be compared
	require.Equal(t, server{
		dsn: "db", name: "n", address: "127.0.0.1:1", base: "/a/b", cert: "cert", key: "key", clientCA: "ca", grace: 21 * time.Second, reconnectMax: 28 * time.Second, codec: pghub.JSONCodec{},
		streamTopics: []string{"s1", "s2"},
		gateway: gateway.Config{
			Topics: []string{"t1", "t2"}, Publish: []string{"p1"}, Origins: []string{"o1", "o2"}, AllowCredentials: true, Hosts: []string{"h1", "h2"},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
			Codec:          pghub.JSONCodec{}, NoViewer: true,
			MaxClients: 11, MaxClientsPerAddress: 12, MaxTopics: 13, MaxTopicsTotal: 14, MaxMessage: 15, MaxRate: 16, MaxPending: 17,
			SlowTimeout: 22 * time.Second, WriteTimeout: 23 * time.Second, PingInterval: 24 * time.Second, PingTimeout: 25 * time.Second,
			Heartbeat: 26 * time.Second, ReadTimeout: 27 * time.Second, MaxTopicsPerAddress: 18, MaxPendingTotal: 19,
			Compress: true, HistoryEvents: 31, HistoryBytes: 32, HistoryLinger: 33 * time.Second,
		},
	}, s)
}

// What is not said is what the help says.
func TestDefaults(t *testing.T) {
	s := configured(t, "--publish", "p")
	s.gateway.Logger, s.logger = nil, nil
	require.Equal(t, server{
		dsn: "db", address: "127.0.0.1:8080", base: "/", grace: 10 * time.Second, reconnectMax: 5 * time.Second, codec: pghub.KeyValueCodec{}, streamTopics: []string{},
		gateway: gateway.Config{Topics: []string{}, Publish: []string{"p"}, Origins: []string{}, Hosts: []string{}, Codec: pghub.KeyValueCodec{}},
	}, s, "no topic, no origin, no proxy, and of limits the gateway's own")
	require.Equal(t, 10*time.Second, configured(t, "--topics", "t", "--grace", "0s").grace)
}

// Every flag of serve is also PGHUB_ and its name, and a name in the file.
func TestEveryFlagHasItsVariable(t *testing.T) {
	for _, flag := range newCommand(io.Discard, io.Discard).Commands[0].Flags {
		name := flag.Names()[0]
		value := map[bool]string{true: "true", false: "7"}[slices.Contains([]string{"no-viewer", "allow-credentials", "compress", "access-log"}, name)]
		for _, period := range []string{"grace", "slow-timeout", "write-timeout", "ping-interval", "ping-timeout", "heartbeat", "read-timeout", "reconnect-max", "history-linger"} {
			if name == period {
				value = "7s"
			}
		}
		t.Setenv("PGHUB_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), value)
		got := settings(t, func(cmd *cli.Command) string { return strings.Trim(fmt.Sprint(cmd.Value(name)), "[]") }, "serve")
		require.Equal(t, value, got, name)
	}
}

func TestRequireToken(t *testing.T) {
	authorize := requireToken("sesame")
	for _, test := range []struct {
		url, header string
		in          bool
	}{
		{"/ws", "", false},
		{"/ws?token=sesame", "", true},
		{"/ws?token=sesam", "", false},
		{"/ws?token=sesames", "", false},
		{"/ws?token=", "", false},
		{"/ws", "Bearer sesame", true},
		{"/ws", "bearer sesame", true},
		{"/ws", "Bearer wrong", false},
		{"/ws", "Bearer ", false},
		{"/ws", "Basic sesame", false},
		{"/ws?token=sesame", "Bearer wrong", false}, // the header counts
	} {
		r := httptest.NewRequest("GET", test.url, nil)
		r.Header.Set("Authorization", test.header)
		err := authorize(r, gateway.Access{Action: gateway.ActionConnect})
		require.Equal(t, test.in, err == nil, "%+v", test)
		if err != nil {
			require.NotContains(t, err.Error(), "sesame")
		}
	}
}
