package reliability

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// startPgBouncer runs a PgBouncer before the server of dsn, in a pool mode, and returns the DSN that leads through it.
// Where there is none the test is skipped, but fails on a continuous integration, as tests without a PostgreSQL do.
func startPgBouncer(t *testing.T, mode, dsn string) string {
	t.Helper()
	program, err := findPgBouncer()
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "no PgBouncer: apt-get install pgbouncer")
		t.Skip("NOT TESTED: no PgBouncer found: apt-get install pgbouncer")
	}
	server := listenTo(t, dsn)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())

	folder, err := os.MkdirTemp("", "pghub-pgbouncer-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	require.NoError(t, os.Chmod(folder, 0o755)) // it reads its configuration as another user
	ini := filepath.Join(folder, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=%s port=%d user=postgres password=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = 10
ignore_startup_parameters = extra_float_digits
`, server.Host, server.Port, port, mode), 0o644))

	args := []string{ini}
	if os.Getuid() == 0 { // which it refuses to run as
		args = append([]string{"-u", "nobody"}, args...)
	}
	cmd := exec.Command(program, args...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
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
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-drained
		_ = cmd.Wait() // however it ended
		if t.Failed() {
			t.Logf("PgBouncer's log:\n%s", log.String())
		}
	})
	select {
	case <-up:
	case <-drained:
		require.FailNow(t, "PgBouncer has not started", log.String())
	case <-time.After(faultPatience):
		require.FailNow(t, "PgBouncer does not start")
	}
	return fmt.Sprintf("postgres://postgres:postgres@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=simple_protocol", port, server.Database)
}

func findPgBouncer() (string, error) {
	if program, err := exec.LookPath("pgbouncer"); err == nil {
		return program, nil
	}
	const debian = "/usr/sbin/pgbouncer" // not in everybody's PATH
	_, err := os.Stat(debian)
	return debian, err
}

// TestFaultPgBouncerTransaction: transaction pooling accepts LISTEN and delivers nothing. Start says so, and what to do.
func TestFaultPgBouncerTransaction(t *testing.T) {
	dsn := pgtest.Database(t)
	pooled := startPgBouncer(t, "transaction", dsn)
	pool := pgtest.Pool(t, pooled)

	deaf, _ := newFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Second, ProbeTimeout: time.Second}, "t")
	err := deaf.Start(t.Context())
	require.ErrorIs(t, err, pghub.ErrPooler)
	require.ErrorContains(t, err, "ListenConfig")
	deaf, _ = newFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Second, ProbeTimeout: time.Second}, "t")
	require.ErrorIs(t, deaf.Run(t.Context()), pghub.ErrPooler)

	// The advice works: publish through the pooler, listen past it.
	hub, d := startFaultHub(t, pghub.Config{Pool: pool, ListenConfig: listenTo(t, dsn)}, "t")
	require.NoError(t, hub.Notify(t.Context(), "t", []int64{1}, "é"))
	d.expect(t, "connect", "subscribe t", `t=e1:"é"`)
}

// TestFaultPgBouncerSession: with session pooling all is as without a pooler, the loss of the server connection behind it
// included.
func TestFaultPgBouncerSession(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, startPgBouncer(t, "session", dsn))
	hub, d := startFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Second, ProbeTimeout: faultPatience}, "t", "u")
	require.NoError(t, hub.Notify(t.Context(), "t", nil, nil))
	d.expect(t, "connect", "subscribe t", "subscribe u", "t=e")

	runSQL(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
	lost := d.await(t, "disconnect").Advisory
	require.Error(t, lost.Err)
	d.expect(t, "reconnect")
	notifyUntilSent(t, hub, "u")
	d.expect(t, "u=e")
}

// notifyUntilSent calls Notify until it finds a connection: those of the pool may have been lost too.
func notifyUntilSent(t *testing.T, hub *pghub.Hub, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	for {
		err := hub.Notify(ctx, topic, nil, nil)
		if err == nil {
			return
		}
		require.True(t, errors.Is(err, pghub.ErrNotConnected) || errors.Is(err, pghub.ErrUnknownOutcome), err)
		require.NoError(t, ctx.Err())
	}
}
