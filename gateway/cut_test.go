package gateway_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// The system does not keep for minutes what a client has not read that was cut off.
func TestWhatACutClientHasNotGotIsForgotten(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, WriteTimeout: 500 * time.Millisecond})
	ws := f.dialRaw("/listen/t", 4096)
	sse, in := f.raw(fmt.Sprintf("GET /pg/events?topic=t HTTP/1.1\r\nHost: %s\r\n\r\n", f.http.Listener.Addr()))
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "200 OK")
	f.publish("t", 1, 3000)
	eventually(t, "both have left", func() bool { st := f.gw.Stats(); return st.WebSockets+st.Streams == 0 })
	for i, conn := range []io.Reader{ws.conn, sse} {
		n, err := io.Copy(io.Discard, conn) // what has arrived, then how it ended
		require.ErrorIs(t, err, syscall.ECONNRESET, "%d after %d", i, n)
	}
}
