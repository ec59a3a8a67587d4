package reliability

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// frozenEnv has this test's program be a process that listens.
const frozenEnv = "PGHUB_TEST_LISTEN"

// listenUntilKilled says on its standard output what comes.
func listenUntilKilled(dsn string) {
	listen, err := pgx.ParseConfig(dsn)
	if err == nil {
		var hub *pghub.Hub
		hub, err = pghub.New(pghub.Config{ListenConfig: listen, ReconnectMax: 100 * time.Millisecond})
		if err == nil {
			_, err = hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
				if ev.Advisory != nil {
					fmt.Println(ev.Advisory.Action)
				}
			}, &pghub.ConsumerConfig{Topics: []string{"t"}})
		}
		if err == nil {
			err = hub.Run(context.Background())
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestFaultFrozenProcess: a process that listens and is stopped, in a debugger or by a hypervisor, takes nothing more. The
// notification queue, which is of all databases of the server, cannot be emptied until the server ends its session. It does so
// after tcp_user_timeout, which every hub sets, and the process hears of a gap when it goes on.
func TestFaultFrozenProcess(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{}) // its queue has nobody else in it
	conn := pgtest.Conn(t, server.DSN()+"&tcp_user_timeout=2000&application_name=frozen")
	ask := func(sql string, args ...any) (is bool) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&is))
		return is
	}
	if !ask(`SELECT current_setting('tcp_user_timeout') = '2000'`) {
		require.NotEqual(t, "linux", runtime.GOOS, "Linux has TCP_USER_TIMEOUT")
		t.Skip("NOT TESTED: this system has no TCP_USER_TIMEOUT")
	}
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), frozenEnv+"="+server.DSN()+"&tcp_user_timeout=2000")
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		require.NoError(t, process.Process.Kill())
		_ = process.Wait() // killed
	})
	said := bufio.NewScanner(out)
	await := func(word string) {
		t.Helper()
		for said.Scan() {
			if said.Text() == word {
				return
			}
		}
		require.FailNow(t, "the process has ended before it said "+word, said.Err())
	}
	await("subscribe")

	require.NoError(t, process.Process.Signal(pgtest.Freeze))
	frozen := func() bool {
		return ask(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pghub')`)
	}
	require.True(t, frozen())
	_, err = conn.Exec(t.Context(), `SELECT count(pg_notify('t', 'e1:"' || repeat('x', 7900) || g || '"')) FROM generate_series(1, 4000) g`) // 32 MB, more than sockets hold
	require.NoError(t, err)
	require.True(t, ask(`SELECT pg_notification_queue_usage() > 0`), "else this test shows nothing")
	require.Eventually(t, func() bool { return !frozen() }, faultPatience, 50*time.Millisecond, "the server ends its session")
	require.Eventually(t, func() bool { return ask(`SELECT pg_notification_queue_usage() = 0`) }, faultPatience, 10*time.Millisecond, "nothing keeps the queue")

	require.NoError(t, process.Process.Signal(pgtest.Thaw))
	await("reconnect")
}
