package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

// What pg_eventserv is set up with works here, unless something of ours is said.
func TestSettingsOfEventserv(t *testing.T) {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PGHUB_") || strings.HasPrefix(name, "ES_") || name == "DATABASE_URL" {
			t.Setenv(name, "") // puts it back
			require.NoError(t, os.Unsetenv(name))
		}
	}
	read := func(args ...string) (s server, level string) {
		return settings(t, func(cmd *cli.Command) server {
			level = cmd.String("log-level")
			var s server
			require.NoError(t, s.configure(cmd))
			return s
		}, args...), level
	}
	file := filepath.Join(t.TempDir(), "pg_eventserv.toml")
	require.NoError(t, os.WriteFile(file, []byte(`
DbConnection = "postgres://file/db"
HttpHost = "0.0.0.0"
HttpPort = 7777
HttpsPort = 7701
Channels = ["people", "chat*"]
CORSOrigins = ["https://a.example"]
BasePath = "/base"
DbPoolMaxConns = 4
Debug = true
`), 0o600))
	s, level := read("--config", file, "serve")
	require.Equal(t, []string{"people", "chat*"}, s.gateway.Topics)
	require.Equal(t, []string{"https://a.example"}, s.gateway.Origins)
	require.Equal(t, []string{"0.0.0.0:7777", "/base", "postgres://file/db", "debug"}, []string{s.address, s.base, s.dsn, level})

	for name, value := range map[string]string{
		"ES_CHANNELS": "one two", "ES_HTTPPORT": "7778", "ES_DBCONNECTION": "postgres://env/db", "ES_TLSSERVERCERTIFICATEFILE": "c", "ES_TLSSERVERPRIVATEKEYFILE": "k",
	} {
		t.Setenv(name, value)
	}
	s, level = read("serve")
	require.Equal(t, []string{"one", "two"}, s.gateway.Topics)
	require.Equal(t, []string{"127.0.0.1:7778", "/", "postgres://env/db", "info", "c", "k"}, []string{s.address, s.base, s.dsn, level, s.cert, s.key},
		"nothing is open that was not said")

	t.Setenv("ES_HTTPHOST", "") // an empty setting is none
	t.Setenv("ES_CHANNELS", "")
	s, _ = read("--config", file, "serve")
	require.Equal(t, []string{"people", "chat*"}, s.gateway.Topics)
	require.Equal(t, "0.0.0.0:7778", s.address)
	t.Setenv("PGHUB_TOPICS", "ours")
	s, _ = read("serve")
	require.Equal(t, "127.0.0.1:7778", s.address, "and not all addresses")

	t.Setenv("DATABASE_URL", "postgres://ours/db")
	t.Setenv("PGHUB_TOPICS", "ours")
	s, _ = read("serve", "--listen", "127.0.0.1:9")
	require.Equal(t, []string{"ours"}, s.gateway.Topics)
	require.Equal(t, []string{"127.0.0.1:9", "postgres://ours/db"}, []string{s.address, s.dsn})
}
