package frameworks

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// block returns the n-th code block of a language on the page.
func block(t *testing.T, page, language string, n int) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(found), n)
	return found[n][1]
}

// The program of docs/first-service.md has thirty lines, serves a row from memory, and the new one when it has changed; it outlives its
// listener's connection, and says how it is.
func TestFirstService(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	const page = "../../docs/first-service.md"
	source := block(t, page, "go", 0)
	_, body, _ := strings.Cut(source, "\n)\n") // the imports
	lines := 0
	for line := range strings.Lines(body) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	require.LessOrEqual(t, lines, 30)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	program := filepath.Join(dir, "program")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, filepath.Join(dir, "main.go")).CombinedOutput()
	require.NoError(t, err, string(out))

	dsn := pgtest.Database(t)
	db := pgtest.Conn(t, dsn)
	do := func(sql string) {
		_, err := db.Exec(pgtest.Within(t), sql)
		require.NoError(t, err)
	}
	do(block(t, page, "sql", 0))
	s := startService(t, program, dsn)

	require.Equal(t, "99 true <nil>\n", s.get(t, "/prices/7"))
	s.await(t, "it answers from memory", func(t require.TestingT) {
		require.Equal(t, "99 true <nil>\n", s.get(t, "/prices/7"))
		require.Positive(t, s.figure(t, "pghub_cache_hits_total"))
	})
	require.Empty(t, s.get(t, "/livez"))
	require.Empty(t, s.get(t, "/readyz"))

	do(block(t, page, "sql", 1))
	s.await(t, "the change arrives", func(t require.TestingT) { require.Equal(t, "79 true <nil>\n", s.get(t, "/prices/7")) })
	loads := s.figure(t, "pghub_cache_loads_total")
	require.Equal(t, "79 true <nil>\n", s.get(t, "/prices/7"))
	require.InDelta(t, loads, s.figure(t, "pghub_cache_loads_total"), 0)

	do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghub:shop' AND datname = current_database()`)
	s.await(t, "the outage is over", func(t require.TestingT) {
		require.InDelta(t, 1, s.figure(t, "pghub_cache_outages_total"), 0)
		require.InDelta(t, 1, s.figure(t, "pghub_cache_live"), 0)
		require.Empty(t, s.get(t, "/readyz"))
	})
	do(`UPDATE prices SET price = 59 WHERE id = 7`)
	s.await(t, "changes arrive again", func(t require.TestingT) { require.Equal(t, "59 true <nil>\n", s.get(t, "/prices/7")) })

	require.NoError(t, s.cmd.Process.Signal(syscall.SIGINT))
	<-s.ended
	require.NoError(t, s.err)
	require.Equal(t, 2, strings.Count(s.log.String(), "update[7]"), s.log.String())
}

// service is the program at work.
type service struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{}

	// To be read when it has ended.
	log bytes.Buffer
	err error
}

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: pgtest.Patience}

// startService starts the program on a port that was free a moment ago, and returns when it answers.
func startService(t *testing.T, program, dsn string) *service {
	t.Helper()
	for range 10 { // another program may take the port
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		require.NoError(t, listener.Close())
		s := &service{cmd: exec.Command(program), url: "http://" + address, ended: make(chan struct{})}
		s.cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn, "ADDR="+address)
		s.cmd.Stderr = &s.log
		require.NoError(t, s.cmd.Start())
		go func() {
			defer close(s.ended)
			s.err = s.cmd.Wait()
		}()
		t.Cleanup(func() {
			_ = s.cmd.Process.Kill() // or it has ended
			<-s.ended
		})
		if s.isUp() {
			return s
		}
		_ = s.cmd.Process.Kill()
		<-s.ended
		t.Log(s.log.String())
	}
	require.FailNow(t, "no service")
	return nil
}

func (s *service) isUp() bool {
	deadline := time.After(pgtest.Patience)
	for {
		if answer, err := client.Get(s.url + "/readyz"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-s.ended:
			return false
		case <-deadline:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *service) await(t *testing.T, what string, is func(t require.TestingT)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { is(c) }, pgtest.Patience, 10*time.Millisecond, what)
}

func (s *service) get(t require.TestingT, path string) string {
	answer, err := client.Get(s.url + path)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", path, body)
	return string(body)
}

// figure is a metric of the cache's, from /metrics.
func (s *service) figure(t require.TestingT, name string) float64 {
	match := regexp.MustCompile(`(?m)^` + name + `\{.*\} (.*)$`).FindStringSubmatch(s.get(t, "/metrics"))
	require.NotNil(t, match, name)
	value, err := strconv.ParseFloat(match[1], 64)
	require.NoError(t, err)
	return value
}
