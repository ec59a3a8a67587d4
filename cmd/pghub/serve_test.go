package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), waiting)
	t.Cleanup(cancel)
	return ctx
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	dsn := pgtest.Database(t)
	for _, signal := range bothSignals {
		p := start(t, []string{"DATABASE_URL=" + dsn}, "serve", "--listen", "127.0.0.1:0", "--topics", "chat_*,orders",
			"--base-path", "/events/here/", "--publish", "orders", "--grace", "5m")
		base := "http://" + p.address + "/events/here"
		status, page := get(t, base+"/")
		require.Equal(t, 200, status)
		require.Contains(t, page, "<title>pghub")
		ready(t, http.DefaultClient, base)

		ws, _, err := websocket.Dial(within(t), base+"/listen/orders", nil)
		require.NoError(t, err)
		resp, err := http.Post(base+"/notify/orders?key=7", "application/json", bytes.NewReader([]byte(`{"a":1}`)))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 204, resp.StatusCode)
		_, data, err := ws.Read(within(t))
		require.NoError(t, err)
		require.Equal(t, `e7:{"a":1}`, string(data))

		closed := make(chan error, 1)
		go func() { _, _, err := ws.Read(within(t)); closed <- err }()
		took := p.end(signal)
		require.NoError(t, p.err, "exit code 0")
		require.Less(t, took, time.Minute, "nobody makes use of the grace")
		require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(<-closed))
	}
}

func TestServeEndsInItsGraceTimeWhateverClientsDo(t *testing.T) {
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t)}, "serve", "--listen", "127.0.0.1:0", "--topics", "*", "--grace", "100ms")
	ready(t, http.DefaultClient, "http://"+p.address)
	ws, _, err := websocket.Dial(within(t), "http://"+p.address+"/listen/t", nil)
	require.NoError(t, err)
	defer func() { _ = ws.CloseNow() }() // reads nothing, and so does not answer the closing
	require.Less(t, p.end(bothSignals[1]), 5*time.Second, "which is what the default would take")
	require.NoError(t, p.err)
	require.Contains(t, p.said(), "not all clients have said goodbye")
}

func TestServeStartsWhileTheDatabaseIsAway(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	require.NoError(t, server.Stop(pgtest.Fast))
	p := start(t, []string{"DATABASE_URL=" + server.DSN()}, "serve", "--listen", "127.0.0.1:0", "--topics", "*")
	status, _ := get(t, "http://"+p.address+"/readyz")
	require.Equal(t, 503, status)
	require.NoError(t, server.Start(t.Context()))
	ready(t, http.DefaultClient, "http://"+p.address)
}

// The program keeps its memory small, unless its user says otherwise.
func TestCollector(t *testing.T) {
	for said, want := range map[string]string{"": "50", "GOGC=200": "200"} {
		env := []string{"DATABASE_URL=" + pgtest.Database(t)}
		if said != "" {
			env = append(env, said)
		}
		p := start(t, env, "serve", "--listen", "127.0.0.1:0", "--topics", "*")
		_, text := get(t, "http://"+p.address+"/metrics")
		require.Contains(t, text, "\ngo_gc_gogc_percent "+want+"\n")
	}
}

func TestToken(t *testing.T) {
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t), "PGHUB_TOKEN=sesame"}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--access-log", "--log-level", "debug")
	base := "http://" + p.address
	ready(t, http.DefaultClient, base)
	status, _ := get(t, base+"/stats")
	require.Equal(t, 401, status)
	status, _ = get(t, base+"/stats?token=wrong")
	require.Equal(t, 401, status)
	status, _ = get(t, base+"/stats?token=sesame")
	require.Equal(t, 200, status)
	_, _, err := websocket.Dial(within(t), base+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer sesame"}}})
	require.NoError(t, err)
	require.NotContains(t, p.said(), "sesame")
}

func TestMistakesAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pghub.toml")
	dsn := "DATABASE_URL=postgres://u:hush@127.0.0.1:1/x"
	for _, test := range []struct {
		file string
		args []string
		says string
	}{
		{"", []string{"serve", "--topics", "*", "-d", ""}, "no database"},
		{"", []string{"serve"}, "no topic is open to clients"},
		{"", []string{"serve", "--topics", "[a"}, "not a pattern of topics"},
		{"", []string{"serve", "--topics", "*", "--log-level", "loud"}, "--log-level is"},
		{"", []string{"serve", "--topics", "*", "--codec", "xml"}, "--codec is"},
		{"", []string{"serve", "--topics", "*", "--tls-key", "x"}, "go together"},
		{"", []string{"serve", "--topics", "*", "--tls-client-ca", "x"}, "--tls-client-ca needs"},
		{"", []string{"serve", "--topics", "*", "--trusted-proxies", "x"}, "--trusted-proxies"},
		{"", []string{"serve", "--topics", "*", "--listen", "127.0.0.1:99999"}, "invalid port"},
		{"", []string{"serve", "--topics", "*", "orders"}, "takes flags only"},
		{"", []string{"serve", "--topics", "*", "-d", "postgres://u:hush@h:port/x"}, "cannot parse"},
		{"", []string{"serve", "--topics", "*", "--base-path", "a b"}, "--base-path"},
		{"", []string{"serve", "--topics", "*", "--base-path", "{x}"}, "--base-path"},
		{"", []string{"serve", "--topics", "*", "--base-path", "a//b"}, "--base-path"},
		{"", []string{"serve", "--topics", "*", "--token", ""}, "--token is empty"},
		{"", []string{"serve", "--topics", "*", "--token", " "}, "--token is empty"},
		{"[serve]\ntoken = ''", []string{"serve", "--topics", "*"}, "--token is empty"},
		{"", []string{"serve", "--topics", "*", "--origins", "*", "--allow-credentials"}, "any page"},
		{"", []string{"serve", "--topics", "*", "--origins", "https://a.example/"}, "https://a.example/"},
		{"", []string{"serve", "--topics", "*", "--grace", "-1s"}, "grace is -1s"},
		{"", []string{"serve", "--topics", "*", "--heartbeat", "-2s"}, "Heartbeat is -2s"},
		{"", []string{"serve", "--topics", "*", "--ping-timeout", "soon"}, "ping-timeout"},
		{"", []string{"serve", "--topics", "*", "--reconnect-max", "-3s"}, "reconnect-max is -3s"},
		{"", []string{"serve", "--topics", "*", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"}, "/nowhere"},
		{"[serve]\nheartbeat = 'soon'", []string{"serve", "--topics", "*"}, "heartbeat"},
		{"[serve]\nmax-topic = 3", []string{"serve", "--topics", "*"}, `no setting "serve.max-topic"`},
		{"[serve", []string{"serve", "--topics", "*"}, "pghub.toml"},
		{"[serve]\nmax-topics = 'many'", []string{"serve", "--topics", "*"}, "many"},
	} {
		args := test.args
		if test.file != "" {
			require.NoError(t, os.WriteFile(file, []byte(test.file), 0o600))
			args = append([]string{"--config", file}, args...)
		}
		said := failing(t, []string{dsn}, args...)
		require.Contains(t, said, test.says)
		require.NotContains(t, said, "msg=serving")
		require.NotContains(t, said, "hush")
	}
}

func TestWrongPasswordEndsTheProgram(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{HBA: "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256"})
	conn := pgtest.Conn(t, server.DSN())
	_, err := conn.Exec(t.Context(), "CREATE ROLE u LOGIN PASSWORD 'right'")
	require.NoError(t, err)
	config := conn.Config()
	said := failing(t, []string{fmt.Sprintf("DATABASE_URL=postgres://u:hush@%s:%d/postgres", config.Host, config.Port)},
		"serve", "--listen", "127.0.0.1:0", "--topics", "*")
	require.Contains(t, said, "password authentication failed")
	reason := said[strings.LastIndex(said, "\npghub: "):]
	require.Equal(t, 1, strings.Count(reason, "pghub: "), "it says once who says it: %s", reason)
	require.NotContains(t, said, "hush")
}

func TestAnEmptyTokenIsNone(t *testing.T) {
	said := failing(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/x", "PGHUB_TOKEN="}, "serve", "--topics", "*", "--listen", "127.0.0.1:0")
	require.Contains(t, said, "--token is empty")
}

// What is open to others without protection is said, and so are settings that nobody reads.
func TestWarnings(t *testing.T) {
	dsn := "DATABASE_URL=" + pgtest.Database(t)
	cert, _ := newCertificate(t, t.TempDir())
	for _, test := range []struct {
		env, args []string
		says      []string
		not       []string
	}{
		{nil, []string{"--listen", "127.0.0.1:0"}, nil, []string{"level=WARN"}},
		{nil, []string{"--listen", "localhost:0"}, nil, []string{"level=WARN"}},
		{nil, []string{"--listen", ":0"}, []string{"without TLS", "without a token"}, nil},
		{nil, []string{"--listen", "0.0.0.0:0", "--token", "sesame"}, []string{"without TLS"}, []string{"without a token", "sesame"}},
		{nil, []string{"--listen", "0.0.0.0:0", "--tls-cert", cert + ".crt", "--tls-key", cert + ".key"}, []string{"without a token"}, []string{"without TLS"}},
		{[]string{"PGHUB_MAX_TOPIC=3", "PGHUB_SERVICE_HOST=hush"}, []string{"--listen", "127.0.0.1:0"}, []string{"PGHUB_MAX_TOPIC", "PGHUB_SERVICE_HOST"}, []string{"hush"}},
	} {
		p := start(t, append(test.env, dsn), append([]string{"serve", "--topics", "*"}, test.args...)...)
		p.end(bothSignals[0])
		said := p.said()
		for _, text := range test.says {
			require.Contains(t, said, text, "%v", test.args)
		}
		for _, text := range test.not {
			require.NotContains(t, said, text, "%v", test.args)
		}
	}
}
