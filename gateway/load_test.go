package gateway_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// open to as many clients as a test makes.
var wide = gateway.Config{Topics: []string{"*"}, MaxClientsPerAddress: -1, MaxClients: -1, PingInterval: time.Hour}

// clients opens n raw WebSockets on path, several at a time.
func (f *fixture) clients(n int, path func(i int) string) []*rawSocket {
	f.t.Helper()
	all := make([]*rawSocket, n)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				var err error
				if all[i], err = f.tryDialRaw(path(i), 16<<10); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := failed.Load(); err != nil {
		f.t.Fatal(*err)
	}
	f.t.Cleanup(func() {
		for _, s := range all {
			_ = s.conn.Close()
		}
	})
	return all
}

// One thousand clients on one topic, and on twenty, and a thousand events a second: what is delivered is what is
// expected, to each client, in order.
func TestLoad(t *testing.T) {
	for _, topics := range []int{1, 20} {
		t.Run(fmt.Sprintf("%d topics", topics), func(t *testing.T) {
			const clients, rate = 1000, 1000
			events := 1000
			if racing {
				events = 200
			}
			f := newFixture(t, wide)
			all := f.clients(clients, func(i int) string { return fmt.Sprintf("/listen/t%d?format=event", i%topics) })
			require.Equal(t, topics, f.listening())

			var delivered atomic.Int64
			var wg sync.WaitGroup
			for i, s := range all {
				wg.Go(func() {
					buf := make([]byte, 4096)
					for n, want := 0, events/topics; n < want; {
						data, err := s.readText(buf)
						if err != nil {
							t.Errorf("client %d: %v", i, err)
							return
						}
						if bytes.HasPrefix(data, []byte(`{"topic":null`)) {
							continue // subscribe
						}
						if !bytes.Contains(data, []byte(`"key":[`+strconv.Itoa(n)+`]`)) {
							t.Errorf("client %d: event %d is %s", i, n, data)
							return
						}
						n++
						delivered.Add(1)
					}
				})
			}
			began := time.Now()
			const part = 10
			pace := time.NewTicker(time.Second * part / rate)
			defer pace.Stop()
			for sent := 0; sent < events; sent += part {
				_, err := f.pool.Exec(f.ctx(), `SELECT pg_notify('t' || i % $1, 'e' || i / $1 || ':{"some":"value"}') FROM generate_series($2::int, $3) AS i`,
					topics, sent, sent+part-1)
				require.NoError(t, err)
				<-pace.C
			}
			published := time.Since(began)
			wg.Wait()
			took := time.Since(began)
			require.EqualValues(t, clients*events/topics, delivered.Load())
			require.Zero(t, f.gw.Stats().Dropped)
			require.EqualValues(t, events, f.hub.Stats().Received)
			t.Logf("%d clients, %d topics: %d events in %v, %d deliveries in %v: %.0f/s",
				clients, topics, events, published.Round(time.Millisecond), delivered.Load(), took.Round(time.Millisecond),
				float64(delivered.Load())/took.Seconds())
		})
	}
}

// Ten thousand idle WebSockets, or as many as PGHUB_IDLE_CLIENTS says: what one costs, and that events still arrive.
func TestIdleClients(t *testing.T) {
	n := 2000
	if text := os.Getenv("PGHUB_IDLE_CLIENTS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	limit := openFiles(t)
	if most := limit/2 - 200; n > most {
		t.Logf("only %d of %d clients: the limit of open files is %d", most, n, limit)
		n = most
	}
	f := newFixture(t, wide)
	f.clients(1, func(int) string { return "/listen/t" })
	before, goroutines := memory(), runtime.NumGoroutine()
	all := f.clients(n, func(int) string { return "/listen/t" })
	eventually(t, "the server's goroutines of the handshakes have ended", func() bool { return runtime.NumGoroutine() <= goroutines+n+20 })
	after := memory()
	const own = 4096 + 400 // a rawSocket: its bufio.Reader, and the connection
	t.Logf("%d idle WebSockets: %d bytes of Go memory each (without some %d of the test's own client), %.2f goroutines each",
		n, int(after-before)/n-own, own, float64(runtime.NumGoroutine()-goroutines)/float64(n))
	f.notify("t", "x")
	buf := make([]byte, 64)
	for i, s := range all {
		data, err := s.readText(buf)
		require.NoError(t, err)
		require.Equal(t, "x", string(data), i)
	}
}

// memory is what Go holds in heap and stacks.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
