package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Idle WebSockets, a thousand of them or as many as PGHUB_IDLE_CLIENTS says: what one costs the program, by the memory
// that the system has given it, and that an event still reaches them all.
func TestIdleClients(t *testing.T) {
	n := setting(t, "PGHUB_IDLE_CLIENTS", 1000)
	dsn := pgtest.Database(t)
	p := start(t, []string{"DATABASE_URL=" + dsn}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--max-clients-per-address", "-1", "--max-clients", "-1", "--ping-interval", "1h") // they do not answer
	ready(t, http.DefaultClient, "http://"+p.address)
	for range 20 { // what the first ones need once
		connect(t, p.address)
	}
	before := p.resident()
	clients := make([]*bufio.Reader, n)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := i; j < n; j += 8 {
				clients[j] = connect(t, p.address)
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
	if before > 0 {
		t.Logf("%d idle WebSockets: %d kB before, %d kB after, %.1f kB each", n, before, p.resident(), float64(p.resident()-before)/float64(n))
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT pg_notify('t', 'x')")
	require.NoError(t, err)
	var listeners int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pghub' AND datname = current_database()").Scan(&listeners))
	require.Equal(t, 1, listeners)
	require.NoError(t, conn.Close(t.Context()))
	for i, c := range clients {
		frame := make([]byte, 3)
		_, err := c.Read(frame)
		require.NoError(t, err, i)
		require.Equal(t, "\x81\x01x", string(frame), "one text message, x")
	}
}

// connect opens a WebSocket on topic t.
func connect(t *testing.T, address string) *bufio.Reader {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /listen/t HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	in := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Error("no WebSocket: ", err)
		return nil
	}
	return in
}

// resident is how many kB of memory the program has, 0 where the system does not say.
func (p *program) resident() int { return memoryOf(p.cmd.Process.Pid, "VmRSS") }

// memoryOf is a figure of the system about a process, in kB; 0 where it does not say.
func memoryOf(pid int, figure string) (kB int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, rest, found := strings.Cut(string(text), "\n"+figure+":"); found {
		_, _ = fmt.Sscan(rest, &kB)
	}
	return kB
}
