package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One who reads slowly, but reads, is not cut off; one who has stopped is.
func TestSlowIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer func() { _ = client.Close() }()
		c := &conn{Conn: server, timeout: 15 * time.Second}
		sent := bytes.Repeat([]byte("0123456789abcdef"), 4<<10) // 64 KiB
		var got []byte
		read := make(chan struct{})
		go func() {
			defer close(read)
			buf := make([]byte, 2<<10)
			for len(got) < len(sent) {
				time.Sleep(time.Second)
				n, err := client.Read(buf)
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, buf[:n]...)
			}
		}()
		c.cork(nil)
		_, err := c.Write(sent)
		require.NoError(t, err)
		_, err = c.uncork()
		require.NoError(t, err, "it took half a minute")
		<-read
		require.Equal(t, sent, got)

		began := time.Now()
		_, err = c.Write(sent)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 15*time.Second, time.Since(began))
	})
}

// The TCP connection is found beneath whatever is over it.
func TestTCPOf(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	tcp, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = tcp.Close() }()
	require.Same(t, tcp, tcpOf(tcp))
	require.Same(t, tcp, tcpOf(tls.Client(tcp, &tls.Config{})))
	require.Same(t, tcp, tcpOf(tls.Client(&conn{Conn: tcp}, &tls.Config{})))
	pipe, other := net.Pipe()
	require.Nil(t, tcpOf(pipe))
	keepLittle(pipe) // does nothing
	forgetAtClose(pipe, true)
	require.NoError(t, pipe.Close())
	_, err = other.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, tcp, ConnContext(context.Background(), tcp).Value(connKey{}))
}
