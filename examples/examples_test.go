// Package examples tests the programs in its folders as a user runs them.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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

func TestService(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	program := build(t, "service")

	t.Run("serves", func(t *testing.T) {
		s := startService(t, command(t, program, "DATABASE_URL="+pgtest.Database(t), "ADDR=127.0.0.1:0"))
		s.await(`msg="pghub: listening"`)
		status, _ := s.request(http.MethodGet, "/livez", "")
		require.Equal(t, http.StatusOK, status)
		status, body := s.request(http.MethodGet, "/readyz", "")
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
		status, _ := s.request(http.MethodGet, "/livez", "")
		require.Equal(t, http.StatusOK, status)
		status, body := s.request(http.MethodGet, "/readyz", "")
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

func TestWorker(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	program := build(t, "worker")
	dsn := pgtest.Database(t)
	conn := pgtest.Conn(t, dsn)
	insert := func(first, last int) {
		_, err := conn.Exec(t.Context(), `INSERT INTO jobs (task) SELECT 'task ' || n FROM generate_series($1::int, $2::int) n`, first, last)
		require.NoError(t, err)
	}

	// Two processes, and each job is done once: those that come now, and those that wait when nobody is there.
	first, second := startLines(t, command(t, program, "DATABASE_URL="+dsn)), startLines(t, command(t, program, "DATABASE_URL="+dsn))
	require.Eventually(t, func() bool {
		var exists bool
		err := conn.QueryRow(t.Context(), `SELECT to_regclass('pghub.watches') IS NOT NULL AND to_regclass('jobs') IS NOT NULL`).Scan(&exists)
		return err == nil && exists
	}, time.Minute, 10*time.Millisecond)
	insert(1, 100)
	done := func() { // and committed, which comes after the line that tells of it
		t.Helper()
		require.Eventually(t, func() bool {
			var left int
			err := conn.QueryRow(t.Context(), `SELECT count(*) FROM jobs`).Scan(&left)
			return err == nil && left == 0
		}, time.Minute, 10*time.Millisecond)
	}
	done()
	first.interrupt()
	second.interrupt()
	insert(101, 110)
	third := startLines(t, command(t, program, "DATABASE_URL="+dsn))
	done()
	third.interrupt()

	all := slices.Concat(first.all(), second.all(), third.all())
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 110)
}

func TestTail(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	program := build(t, "tail")
	dsn := pgtest.Database(t)
	conn := pgtest.Conn(t, dsn)
	exec := func(statement string, args ...any) {
		_, err := conn.Exec(t.Context(), statement, args...)
		require.NoError(t, err)
	}
	p := startLines(t, command(t, program, "DATABASE_URL="+dsn))
	p.await(1)
	exec(`INSERT INTO orders (item, count) VALUES ('book', 2)`)
	exec(`UPDATE orders SET count = 3`)
	exec(`INSERT INTO orders (item, count) VALUES (repeat('x', 8000), 1)`)
	p.await(4)
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghub:tail' AND datname = current_database()`)
	p.await(5)
	exec(`DELETE FROM orders WHERE id = 1`)
	p.await(6)
	p.interrupt()
	require.Equal(t, []string{
		"-- listening", "insert of order 1: 2 × book", "update of order 1: 3 × book", "insert of order [2], which is too large to be shown",
		"-- the connection was lost: orders may be missing here", "delete of order 1: 3 × book",
	}, p.all())
}

// A shop that is killed five times, each time with a mail that was sent and not acknowledged, confirms each order once.
func TestOutbox(t *testing.T) {
	program := build(t, "outbox")
	dsn := pgtest.Database(t)
	out, _ := finish(t, patiently(t, program, "DATABASE_URL="+dsn))
	match := regexp.MustCompile(`^the shop was killed 5 times, and has (\d+) orders
(\d+) mails were sent, one for each order; (\d+) were asked for again, and not sent again
$`).FindStringSubmatch(out)
	require.NotNil(t, match, out)
	require.Equal(t, match[1], match[2])
	require.NotEqual(t, "0", match[1])
	again, err := strconv.Atoi(match[3])
	require.NoError(t, err)
	require.GreaterOrEqual(t, again, 5)
	requireNothingLeft(t, dsn)
}

func TestLedger(t *testing.T) {
	program := build(t, "ledger")
	dsn := pgtest.Database(t)
	out, _ := finish(t, patiently(t, program, "DATABASE_URL="+dsn))
	require.Equal(t, "1000 payments were booked, each once: the balances of 20 accounts are right\n", out)
	requireNothingLeft(t, dsn)
}

// requireNothingLeft says that an example has removed what it made in a database that had nothing.
func requireNothingLeft(t *testing.T, dsn string) {
	t.Helper()
	var schemas int
	require.NoError(t, pgtest.Conn(t, dsn).QueryRow(t.Context(),
		`SELECT count(*) FROM pg_namespace WHERE nspname IN ('pghub', 'pghub_example')`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}

// Whoever copies an example can: it imports nothing that only this module may import. The one exception are the files that find a
// server.
func TestExamplesCanBeCopied(t *testing.T) {
	files, err := filepath.Glob("*/*.go")
	require.NoError(t, err)
	more, err := filepath.Glob("../*/examples/*/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, more)
	for _, file := range append(files, more...) {
		finders := []string{filepath.Join("quickstart", "main.go"), filepath.Join("outbox", "main.go"), filepath.Join("ledger", "main.go")}
		if strings.HasSuffix(file, "_test.go") || slices.Contains(finders, file) {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			require.NotContains(t, spec.Path.Value, "/internal/", file)
		}
	}
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
	return within(t, time.Minute, program, env...)
}

// patiently is command for a program that has limits of its own.
func patiently(t *testing.T, program string, env ...string) *exec.Cmd {
	t.Helper()
	return within(t, 10*time.Minute, program, env...)
}

func within(t *testing.T, limit time.Duration, program string, env ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
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

// lines is a program that runs, and the lines that it has printed.
type lines struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	seen []string
	more chan struct{} // closed and replaced by each line
}

func startLines(t *testing.T, cmd *exec.Cmd) *lines {
	t.Helper()
	p := &lines{t: t, cmd: cmd, ended: make(chan struct{}), more: make(chan struct{})}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.ended)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.mu.Lock()
			p.seen = append(p.seen, scanner.Text())
			close(p.more)
			p.more = make(chan struct{})
			p.mu.Unlock()
		}
	}()
	return p
}

func (p *lines) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// await returns when there are n lines.
func (p *lines) await(n int) {
	p.t.Helper()
	for {
		p.mu.Lock()
		enough, more := len(p.seen) >= n, p.more
		p.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-more:
		case <-p.ended:
			require.Failf(p.t, "the program has ended", "after %q, without %d lines", p.all(), n)
		}
	}
}

// interrupt ends the program as Ctrl-C does, and it has to end well.
func (p *lines) interrupt() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
	<-p.ended // reads to the end before Wait closes the pipe
	require.NoError(p.t, p.cmd.Wait())
}
