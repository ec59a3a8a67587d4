package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// Who reads slowly is not cut off, however little that is; who stops is, and is counted. A write to a slow reader takes far longer
// than WriteTimeout: the system wakes a writer when a third of what it keeps has gone.
func TestWhoReadsSlowlyIsNotCutOff(t *testing.T) {
	timeout := 500 * time.Millisecond
	err := readSlowly(t, timeout)
	for ; err != nil && timeout < 8*time.Second; err = readSlowly(t, timeout) { // a machine that stands still does not read slowly, but not at all
		t.Logf("with %v: %v", timeout, err)
		timeout *= 2
	}
	require.NoError(t, err)
}

// dialDistant makes a request on a connection as over a network, with packets of 536 bytes: within a machine they are of 64 kB, and
// room for one packet is the least that a system tells the other one of.
func (f *fixture) dialDistant(request, answer string) net.Conn {
	f.t.Helper()
	var refused error
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			refused = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2<<10))
		})
	}}
	conn, err := dialer.DialContext(f.ctx(), "tcp", f.http.Listener.Addr().String())
	require.NoError(f.t, err)
	require.NoError(f.t, refused)
	f.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(f.t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = fmt.Fprintf(conn, "%sHost: %s\r\n\r\n", request, conn.RemoteAddr())
	require.NoError(f.t, err)
	begin := make([]byte, len(answer))
	_, err = io.ReadFull(conn, begin)
	require.NoError(f.t, err)
	require.Equal(f.t, answer, string(begin))
	return conn
}

// readSlowly reads for several times the timeout. The error says who was cut off.
func readSlowly(t *testing.T, timeout time.Duration) error {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: timeout, SlowTimeout: time.Hour, PingInterval: time.Hour})
	ws := f.dialDistant("GET /pg/listen/t?format=event HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "HTTP/1.1 101 ")
	sse := f.dialDistant("GET /pg/events?topic=t HTTP/1.1\r\n", "HTTP/1.1 200 ")
	f.publish("t", 1, 300) // 2 MB, in one transaction: more than the systems of both sides keep
	const steps = 16       // of 512 bytes, in WriteTimeout: a fifth of what has to go before a writer is woken
	buf := make([]byte, 512)
	for range 4 * steps {
		for what, conn := range map[string]net.Conn{"WebSocket": ws, "event stream": sse} {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		time.Sleep(timeout / steps)
	}
	st := f.gw.Stats()
	require.NotZero(t, st.Pending, "there was always something to write")
	if st.Closed["stuck"] > 0 {
		return errors.New("cut off behind the last bytes")
	}
	// And now neither reads any more.
	eventually(t, "both have left", func() bool { st := f.gw.Stats(); return st.WebSockets+st.Streams == 0 })
	require.Equal(t, map[string]uint64{"slow": 0, "flood": 0, "silent": 0, "stuck": 2, "expired": 0}, f.gw.Stats().Closed)
	return nil
}
