package pgtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer runs a PgBouncer before the server of dsn, in a pool mode, until the test has ended, and returns the DSN that leads through
// it. Where there is none the test is skipped, but fails on a continuous integration, as tests without a PostgreSQL do.
func PgBouncer(tb testing.TB, mode, dsn string) string {
	tb.Helper()
	program, err := findPgBouncer()
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal("no PgBouncer: apt-get install pgbouncer")
		}
		tb.Skip("NOT TESTED: no PgBouncer found: apt-get install pgbouncer")
	}
	server, err := pgx.ParseConfig(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "pghub-pgbouncer-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			tb.Error(err)
		}
	})
	ini := filepath.Join(folder, "pgbouncer.ini")
	if err := os.Chmod(folder, 0o755); err != nil { // it reads its configuration as another user
		tb.Fatal(err)
	}
	if err := os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=%s port=%d user=postgres password=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = 10
ignore_startup_parameters = extra_float_digits
`, server.Host, server.Port, port, mode), 0o644); err != nil {
		tb.Fatal(err)
	}
	runPgBouncer(tb, program, ini)
	return fmt.Sprintf("postgres://postgres:postgres@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=simple_protocol", port, server.Database)
}

func runPgBouncer(tb testing.TB, program, ini string) {
	tb.Helper()
	args := []string{ini}
	if os.Getuid() == 0 { // which it refuses to run as
		args = append([]string{"-u", "nobody"}, args...)
	}
	cmd := exec.Command(program, args...)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	up := make(chan bool, 1)
	drained := make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			log.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "process up") {
				up <- true
			}
		}
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-drained
		_ = cmd.Wait() // however it ended
		if tb.Failed() {
			tb.Logf("PgBouncer's log:\n%s", log.String())
		}
	})
	select {
	case <-up:
	case <-drained:
		tb.Fatal("PgBouncer has not started: " + log.String())
	case <-time.After(startTimeout):
		tb.Fatal("PgBouncer does not start")
	}
}

func findPgBouncer() (string, error) {
	if program, err := exec.LookPath("pgbouncer"); err == nil {
		return program, nil
	}
	const debian = "/usr/sbin/pgbouncer" // not in everybody's PATH
	_, err := os.Stat(debian)
	return debian, err
}
