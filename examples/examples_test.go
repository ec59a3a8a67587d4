// Package examples tests the programs in its folders as a user runs them.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const quickstartOutput = `topic= key=[] value={"action":"connect","final":false}
topic= key=[] value={"action":"subscribe","topic":"topic1","final":false}
topic=topic1 key=[] value=
topic=topic1 key=[1] value={"age":36,"name":"Ada"}
topic=topic1 key=[101 102 103] value={"status":"sold"}
topic=topic1 key=[] value=["red","green","blue"]
topic=topic1 key=[42] value=
topic=topic1 key=[7] value={"id":7,"name":"Grace","age":37}
topic=topic1 key=[8] value="from plain NOTIFY"
topic= key=[] value={"action":"disconnect","final":false}
topic= key=[] value={"action":"reconnect","final":false}
topic=topic1 key=[9] value="still subscribed"
topic= key=[] value={"action":"stop","final":true}
`

func TestQuickstart(t *testing.T) {
	program := build(t, "quickstart")
	dsn := pgtest.Database(t)
	for range 3 {
		out, _ := finish(t, command(t, program, "DATABASE_URL="+dsn))
		require.Equal(t, quickstartOutput, out)
	}
	conn := pgtest.Conn(t, dsn)
	var tables int
	require.NoError(t, conn.QueryRow(t.Context(),
		`SELECT count(*) FROM pg_class WHERE relname = 'people'`).Scan(&tables))
	require.Zero(t, tables, "it leaves nothing behind")

	t.Run("nothing configured", func(t *testing.T) {
		if os.Getenv("PGHUB_TEST_DSN") != "" || os.Getenv("DATABASE_URL") != "" {
			t.Skip("NOT TESTED: a server is configured, and perhaps there is nothing to start another one from")
		}
		out, _ := finish(t, command(t, program))
		require.Equal(t, quickstartOutput, out)
	})
	t.Run("server away", func(t *testing.T) {
		out, err := command(t, program, "DATABASE_URL=postgres://u:secret@127.0.0.1:1/db").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "refused")
		require.NotContains(t, string(out), "secret")
	})
}

func TestCache(t *testing.T) {
	program := build(t, "cache")
	dsn := pgtest.Database(t)
	for range 2 {
		out, log := finish(t, command(t, program, "DATABASE_URL="+dsn))
		require.Regexp(t, regexp.MustCompile(`^cache 1 equals the table: 192 rows, after \d+ events and 1 reconnects
cache 2 equals the table: 192 rows, after 134 events and 0 reconnects
the price of item 255 is 2552
$`), out)
		require.Equal(t, 1, strings.Count(log, "reload, because of a gap"), log)
	}
	conn := pgtest.Conn(t, dsn)
	var schemas int
	require.NoError(t, conn.QueryRow(t.Context(),
		`SELECT count(*) FROM pg_namespace WHERE nspname = 'pghub_example'`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}

func TestService(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	program := build(t, "service")

	t.Run("serves", func(t *testing.T) {
		s := startService(t, command(t, program, "DATABASE_URL="+pgtest.Database(t), "ADDR=127.0.0.1:0"))
		s.await(`msg="pghub: listening"`)
		status, body := s.request(http.MethodGet, "/healthz", "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "listening\n", body)

		status, _ = s.request(http.MethodPost, "/orders/7", `{"item":"book"}`)
		require.Equal(t, http.StatusNoContent, status)
		s.await(`topic=orders key=[7] value="{\"item\":\"book\"}"`)
		status, _ = s.request(http.MethodPost, "/orders/7", `{"item":"`+strings.Repeat("x", 8000)+`"}`)
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
		for _, path := range []string{"/orders/seven", "/orders/8"} {
			status, _ = s.request(http.MethodPost, path, "no JSON")
			require.Equal(t, http.StatusBadRequest, status)
		}

		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
		s.await(`value="{\"action\":\"stop\",\"final\":true}"`)
		s.await(`msg="pghub: stopped"`)
		require.NoError(t, s.cmd.Wait())
	})
	t.Run("server away", func(t *testing.T) {
		s := startService(t, command(t, program, "DATABASE_URL=postgres://u:secret@127.0.0.1:1/db", "ADDR=127.0.0.1:0"))
		s.await("refused")
		status, body := s.request(http.MethodGet, "/healthz", "")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, []string{"waiting\n", "connecting\n"}, body)
		status, _ = s.request(http.MethodPost, "/orders/7", `{"item":"book"}`)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
		s.await(`msg="pghub: stopped"`)
		require.NoError(t, s.cmd.Wait())
		require.NotContains(t, s.seen.String(), "secret")
	})
}

// build compiles an example and returns the program.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name+".exe") // Windows needs a suffix, the others do not mind
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./"+name).CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// command is a program with these variables in its environment, and no server configured otherwise.
func command(t *testing.T, program string, env ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "DATABASE_URL=")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// finish runs a program to its end, which has to be a good one.
func finish(t *testing.T, cmd *exec.Cmd) (stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	require.NoError(t, cmd.Run(), "%s%s", &out, &log)
	return out.String(), log.String()
}

// service is the example of that name, running.
type service struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string
	lines *bufio.Scanner
	seen  strings.Builder
}

func startService(t *testing.T, cmd *exec.Cmd) *service {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	s := &service{t: t, cmd: cmd, lines: bufio.NewScanner(stdout)}
	_, addr, found := strings.Cut(s.await(`msg="serving HTTP"`), "addr=")
	require.True(t, found)
	s.url = "http://" + addr
	return s
}

// await returns the next line of the log that contains text.
func (s *service) await(text string) string {
	s.t.Helper()
	for s.lines.Scan() {
		s.seen.WriteString(s.lines.Text() + "\n")
		if strings.Contains(s.lines.Text(), text) {
			return s.lines.Text()
		}
	}
	require.Failf(s.t, "the program has ended", "without %s:\n%s", text, &s.seen)
	return ""
}

func (s *service) request(method, path, body string) (status int, answer string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	req.Close = true // keep no connection that the end of the test would have to wait for
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return resp.StatusCode, string(text)
}
