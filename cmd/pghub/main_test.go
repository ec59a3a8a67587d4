package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// asProgram makes the test binary the program itself.
const asProgram = "TEST_AS_PROGRAM_PGHUB"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	pgtest.Main(m)
}

// waiting bounds what a test waits for: reached only when something is broken.
const waiting = 20 * time.Second

// program is a running pghub.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string // host and port, once it serves
	serving chan string

	mu     sync.Mutex
	output strings.Builder
	ended  chan struct{}
	err    error // of Wait, when ended
}

// start runs pghub with arguments, and settings of the environment as NAME=value, and waits until it serves.
func start(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := launch(t, env, args...)
	p.serves()
	return p
}

// launch runs pghub as start does, and does not wait.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, serving: make(chan string, 1), ended: make(chan struct{})}
	path := os.Args[0]
	if built := os.Getenv("PGHUB_BUILT"); built != "" { // to measure it without the tests in it
		path = built
	}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(clean(os.Environ()), append(env, asProgram+"=1")...)
	out, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	p.cmd.Stdout = io.Discard
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		defer close(p.serving)
		address := regexp.MustCompile(`msg=serving address=(\S+)`)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.output.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			if m := address.FindStringSubmatch(lines.Text()); m != nil {
				p.serving <- m[1]
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // or it has ended
		<-p.ended
		if t.Failed() {
			t.Logf("the program said:\n%s", p.said())
		}
	})
	return p
}

// serves waits until the program serves.
func (p *program) serves() {
	p.t.Helper()
	select {
	case p.address = <-p.serving:
	case <-time.After(waiting):
		p.t.Fatal("it does not serve")
	}
}

// ready waits until a program that serves under an address listens to its database: before that it refuses clients.
func ready(t *testing.T, client *http.Client, base string) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := client.Get(base + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close() // read or not
		return resp.StatusCode == http.StatusOK
	}, waiting, 5*time.Millisecond)
}

// setting is a number that the environment may say.
func setting(t *testing.T, name string, usual int) int {
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// clean is an environment without settings of the program.
func clean(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "PGHUB_") && !strings.HasPrefix(e, "DATABASE_URL=") && !strings.HasPrefix(e, "GOGC=") {
			kept = append(kept, e)
		}
	}
	return kept
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// end waits for the program's end after a signal, and returns how long that took.
func (p *program) end(signal os.Signal) time.Duration {
	p.t.Helper()
	began := time.Now()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
	select {
	case <-p.ended:
	case <-time.After(waiting):
		p.t.Fatal("it does not end")
	}
	return time.Since(began)
}

// failing runs the program to its end, which must be a failure, and returns what it said.
func failing(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waiting)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(clean(os.Environ()), append(env, asProgram+"=1")...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, string(out))
	require.Equal(t, 1, exit.ExitCode(), string(out))
	return string(out)
}

var bothSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}
