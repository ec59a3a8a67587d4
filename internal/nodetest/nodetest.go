// Package nodetest runs scripts in Node for tests.
package nodetest

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Command is Node with a script and its arguments. Where Node 20 or later is missing the test fails if CI is set, and is skipped otherwise.
func Command(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("node")
	version := 0
	if err == nil {
		var out []byte
		out, err = exec.Command(program, "--version").Output()
		major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
		version, _ = strconv.Atoi(major)
	}
	if err != nil || version < 20 {
		const missing = "NOT TESTED: no Node 20 or later found (for example: apt-get install npm)"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	args = append([]string{script}, args...)
	if version < 22 { // where WebSocket is not there by itself
		args = append([]string{"--experimental-websocket", "--no-warnings"}, args...)
	}
	return exec.Command(program, args...)
}

// patience is how long a line is waited for.
const patience = time.Minute

// Lines starts a command, which is killed when the test ends, and returns what it prints, line by line. more is false when it has ended; a
// command that prints nothing for a minute is an error of the test.
func Lines(t testing.TB, cmd *exec.Cmd) (next func() (line []byte, more bool)) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan []byte, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- []byte(scanner.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // or it has ended
		for range lines {
		}
		_ = cmd.Wait() // killed, or not
	})
	return func() ([]byte, bool) {
		select {
		case line, more := <-lines:
			return line, more
		case <-time.After(patience):
			t.Error("the script says nothing")
			return nil, false
		}
	}
}
