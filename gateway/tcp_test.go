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
		c := newConn(server, 15*time.Second)
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
		c.cork(gathered{})
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

// Long messages are written from where they are, and short ones together: what arrives is the same.
func TestGatheredPiecesArriveInTheirOrder(t *testing.T) {
	for _, shares := range []bool{true, false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		dialled, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		accepted, err := listener.Accept()
		require.NoError(t, err)
		c := newConn(accepted, time.Minute)
		c.shares = shares
		var want []byte
		got := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(dialled)
			got <- all
		}()
		memory := gathered{}
		for _, sizes := range [][]int{{1, 5000, 3, 4, 40_000, 16 << 10, 9}, {2000, 2000}, {7}, {}, {sharedFrom - 1, sharedFrom, sharedFrom + 1}} {
			c.cork(memory)
			for i, size := range sizes {
				piece := bytes.Repeat([]byte{byte('a' + i)}, size)
				want = append(want, piece...)
				_, err := c.Write(piece)
				require.NoError(t, err)
				if size < sharedFrom || !shares {
					clear(piece) // the writer's own buffer is used again
				}
			}
			memory, err = c.uncork()
			require.NoError(t, err)
			require.Zero(t, len(memory.copied)+len(memory.pieces)+memory.from)
			memory.copied = append(memory.copied, "what an event stream has left there"...)
			for _, p := range memory.pieces[:cap(memory.pieces)] {
				require.Nil(t, p, "no message is kept")
			}
		}
		require.NoError(t, accepted.Close())
		require.Equal(t, want, <-got)
		require.NoError(t, dialled.Close())
		require.NoError(t, listener.Close())
	}
}
