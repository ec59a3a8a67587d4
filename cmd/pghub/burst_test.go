package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// One transaction's burst reaches all clients whole: of 200 events of 7,000 bytes a hundred of them, which is more than the system's buffers and a
// client's own share take; or as many, of that size, to as many, as the environment says. What the program
// needs for it is logged, three times, and if PGHUB_BESIDE is a pg_eventserv, what that needs, in turn.
func TestBurstToManyClients(t *testing.T) {
	clients, events, size := setting(t, "PGHUB_BURST_CLIENTS", 100), setting(t, "PGHUB_BURST_EVENTS", 200), setting(t, "PGHUB_BURST_SIZE", 7000)
	beside := os.Getenv("PGHUB_BESIDE")
	rounds := 1
	if beside != "" {
		rounds = 3
	}
	dsn := pgtest.Database(t)
	for range rounds {
		p := start(t, []string{"DATABASE_URL=" + dsn}, "serve", "--listen", "127.0.0.1:0", "--topics", "*", "--max-clients-per-address", "-1",
			"--ping-interval", "1h")
		ready(t, http.DefaultClient, "http://"+p.address)
		burst(t, "pghub", p.cmd.Process.Pid, dsn, p.address, clients, events, size)
		p.end(bothSignals[0])
		if beside == "" {
			continue
		}
		pid, address, end := startBeside(t, beside, dsn)
		burst(t, "pg_eventserv", pid, dsn, address, clients, events, size)
		end()
	}
}

// startBeside runs pg_eventserv.
func startBeside(t *testing.T, program, dsn string) (pid int, address string, end func()) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = free.Addr().String()
	require.NoError(t, free.Close())
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(clean(os.Environ()), "DATABASE_URL="+dsn, "ES_HTTPHOST=127.0.0.1", "ES_HTTPPORT="+port)
	require.NoError(t, cmd.Start())
	end = func() {
		_ = cmd.Process.Kill() // or it has ended
		_ = cmd.Wait()         // killed
	}
	t.Cleanup(end)
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, waiting, 5*time.Millisecond)
	return cmd.Process.Pid, address, end
}

// burst has clients listen to topic t of a server, sends the burst, and sees that each of them gets all of it in order.
func burst(t *testing.T, name string, pid int, dsn, address string, clients, events, size int) {
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var listening, done sync.WaitGroup
	listening.Add(clients)
	got := make([]int, clients)
	for i := range 8 {
		var connected []*bufio.Reader
		for j := i; j < clients; j += 8 {
			connected = append(connected, connect(t, address))
		}
		require.False(t, t.Failed())
		for j, c := range connected {
			done.Go(func() { got[i+8*j] = follow(c, events, listening.Done) })
		}
	}
	all := make(chan struct{})
	go func() {
		listening.Wait()
		close(all)
	}()
	// That of pg_eventserv does not say when it listens.
	for late := time.After(waiting); ; {
		_, err := conn.Exec(t.Context(), "SELECT pg_notify('t', 'anybody there? ' || clock_timestamp())")
		require.NoError(t, err)
		select {
		case <-all:
		case <-time.After(20 * time.Millisecond):
			continue
		case <-late:
			t.Fatal("they do not listen")
		}
		break
	}
	measured, stop := watch(pid)
	before, began := spent(pid), time.Now()
	_, err = conn.Exec(t.Context(), `SELECT pg_notify('t', 'burst ' || lpad(i::text, 10) || repeat('x', $2 - 16)) FROM generate_series(1, $1::int) i`, events, size)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(3 * waiting):
		t.Fatal("they wait for more")
	}
	took := time.Since(began)
	stop()
	m := <-measured
	delivered := 0
	for _, n := range got {
		delivered += n
	}
	if name == "pghub" {
		require.Equal(t, events*clients, delivered, "nothing is lost")
	}
	t.Logf("%-13s %d clients, %d events of %d bytes: %.1f %% of them in %v; %d kB of memory at its peak, %v of the processor",
		name, clients, events, size, 100*float64(delivered)/float64(events*clients), took.Round(10*time.Millisecond), m.peak, m.spent-before)
}

// follow returns how many events of the burst a client gets, up to the first one that is not the next.
func follow(c *bufio.Reader, events int, listens func()) (got int) {
	in := bufio.NewReaderSize(c, 16<<10)
	for heard := false; got < events; {
		text, err := frame(in)
		if err != nil {
			return got
		}
		if !heard && text != nil {
			heard = true
			listens()
		}
		if rest, is := bytes.CutPrefix(text, []byte("burst ")); is {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil || n != got+1 {
				return got
			}
			got++
		}
	}
	return got
}

// frame reads one, and returns up to 16 bytes of a text; nil if it is none.
func frame(in *bufio.Reader) (text []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return nil, err
	}
	size := int(head[1])
	if size == 126 {
		if _, err := io.ReadFull(in, head[2:]); err != nil {
			return nil, err
		}
		size = int(head[2])<<8 | int(head[3])
	}
	if head[0] == 0x81 {
		text = make([]byte, min(size, 16))
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
	}
	_, err = in.Discard(size - len(text))
	return text, err
}

// figures are how many kB of memory a process had at most, and how long the processors have worked for it.
type figures struct {
	peak  int
	spent time.Duration
}

// watch looks at a process until stop is called: it may have died by then.
func watch(pid int) (measured <-chan figures, stop func()) {
	last, stopped := make(chan figures, 1), make(chan struct{})
	go func() {
		var m figures
		for {
			if now := (figures{memoryOf(pid, "VmHWM"), spent(pid)}); now.peak > 0 {
				m = now
			}
			select {
			case <-stopped:
				last <- m
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return last, func() { close(stopped) }
}

// spent is how long the processors have worked for a process; 0 where the system does not say.
func spent(pid int) (d time.Duration) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	for _, ticks := range fields[11:13] {
		n, err := strconv.Atoi(ticks)
		if err != nil {
			return 0
		}
		d += time.Duration(n) * 10 * time.Millisecond
	}
	return d
}
