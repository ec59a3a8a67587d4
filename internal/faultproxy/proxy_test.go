package faultproxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	patience = 10 * time.Second      // for what must happen
	silence  = 50 * time.Millisecond // for what must not
	much     = 2 << 20               // many reads
	tooMuch  = 16 << 20              // more than all socket buffers on the way together
)

// server accepts connections and hands them to the test.
type server struct {
	listener *net.TCPListener
	accepted chan *net.TCPConn
}

func newServer(t *testing.T) *server {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	s := &server{listener: l, accepted: make(chan *net.TCPConn, 64)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			s.accepted <- c
		}
	}()
	return s
}

func (s *server) addr() string { return s.listener.Addr().String() }

func newProxy(t *testing.T, target string) *Proxy {
	p, err := New(target)
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Close()
		require.False(t, goroutinesLeft())
	})
	return p
}

// goroutinesLeft reports whether a method of the proxy, its connections or streams runs anywhere.
func goroutinesLeft() bool {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	return strings.Contains(stacks, "faultproxy.(*Proxy)") || strings.Contains(stacks, "faultproxy.(*Conn)") ||
		strings.Contains(stacks, "faultproxy.(*stream)")
}

// pair dials the proxy and returns both ends of the new connection.
func pair(t *testing.T, p *Proxy, s *server) (client, srv *net.TCPConn) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	client = conn.(*net.TCPConn)
	t.Cleanup(func() { client.Close() })
	select {
	case srv = <-s.accepted:
	case <-time.After(patience):
		require.FailNow(t, "the server saw no connection")
	}
	t.Cleanup(func() { srv.Close() })
	return client, srv
}

func send(t *testing.T, to net.Conn, text string) {
	t.Helper()
	require.NoError(t, to.SetWriteDeadline(time.Now().Add(patience)))
	_, err := to.Write([]byte(text))
	require.NoError(t, err)
}

func requireArrives(t *testing.T, at net.Conn, text string) {
	t.Helper()
	require.NoError(t, at.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(text))
	_, err := io.ReadFull(at, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func requireSilent(t *testing.T, at net.Conn) {
	t.Helper()
	require.NoError(t, at.SetReadDeadline(time.Now().Add(silence)))
	n, err := at.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "read %d bytes", n)
}

func requireReadError(t *testing.T, at net.Conn, want error) {
	t.Helper()
	require.NoError(t, at.SetReadDeadline(time.Now().Add(patience)))
	_, err := at.Read(make([]byte, 1))
	require.ErrorIs(t, err, want)
}

// eachDirection runs a test with both directions of a fresh connection.
func eachDirection(t *testing.T, test func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn)) {
	for _, d := range []Direction{ToServer, ToClient} {
		t.Run(d.String(), func(t *testing.T) {
			s := newServer(t)
			p := newProxy(t, s.addr())
			client, srv := pair(t, p, s)
			if d == ToServer {
				test(t, p, d, client, srv)
			} else {
				test(t, p, d, srv, client)
			}
		})
	}
}

func TestPassesEverythingInOrder(t *testing.T) {
	eachDirection(t, func(t *testing.T, _ *Proxy, _ Direction, from, to *net.TCPConn) {
		requirePasses(t, from, to)
	})
}

// requirePasses sends a large pattern, ends the stream, and checks that all of it arrives.
func requirePasses(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	want := pattern(much)
	go func() {
		from.Write(want)
		from.CloseWrite()
	}()
	require.NoError(t, to.SetReadDeadline(time.Now().Add(patience)))
	got, err := io.ReadAll(to)
	require.NoError(t, err)
	require.Equal(t, len(want), len(got))
	require.True(t, string(want) == string(got), "bytes differ")
}

// pattern returns size bytes that show every loss and change of order.
func pattern(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

func TestConns(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	first, firstSrv := pair(t, p, s)
	second, _ := pair(t, p, s)

	conns := p.Conns()
	require.Len(t, conns, 2)
	assert.Equal(t, first.LocalAddr().String(), conns[0].ClientAddr().String())
	assert.Equal(t, second.LocalAddr().String(), conns[1].ClientAddr().String())

	conns[0].Close()
	assert.Len(t, p.Conns(), 1)
	requireReadError(t, first, io.EOF)
	requireReadError(t, firstSrv, io.EOF)

	conns[1].Reset()
	assert.Empty(t, p.Conns())
	requireReadError(t, second, syscall.ECONNRESET)
}

func TestConnEndsWithBothItsDirections(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	client, srv := pair(t, p, s)
	require.NoError(t, client.Close())
	requireReadError(t, srv, io.EOF)
	require.NoError(t, srv.Close())
	require.Eventually(t, func() bool { return len(p.Conns()) == 0 }, patience, time.Millisecond)
}

func TestSetTarget(t *testing.T) {
	primary, standby := newServer(t), newServer(t)
	p := newProxy(t, primary.addr())
	client, srv := pair(t, p, primary)
	p.SetTarget(standby.addr())
	later, laterSrv := pair(t, p, standby)

	send(t, client, "old")
	requireArrives(t, srv, "old")
	send(t, later, "new")
	requireArrives(t, laterSrv, "new")
}

func TestUnreachableTarget(t *testing.T) {
	s := newServer(t)
	s.listener.Close()
	p := newProxy(t, s.addr())
	client, err := net.Dial("tcp", p.Addr())
	if err == nil { // else the reset came before the dial had returned
		defer client.Close()
		_, err = client.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestUnreachableTargetBehindABlackhole(t *testing.T) {
	s := newServer(t)
	s.listener.Close()
	p := newProxy(t, s.addr())
	p.Set(Fault{Blackhole: true})
	client, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	defer client.Close()
	requireSilent(t, client)
	p.Set(Fault{})
	requireReadError(t, client, syscall.ECONNRESET)
}

func TestRefuse(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	client, srv := pair(t, p, s)
	addr := p.Addr()

	require.NoError(t, p.Refuse(true))
	require.NoError(t, p.Refuse(true))
	_, err := net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	send(t, client, "still here")
	requireArrives(t, srv, "still here")

	require.NoError(t, p.Refuse(false))
	require.NoError(t, p.Refuse(false))
	require.Equal(t, addr, p.Addr())
	again, againSrv := pair(t, p, s)
	send(t, again, "back")
	requireArrives(t, againSrv, "back")
}

func TestClose(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	client, srv := pair(t, p, s)
	p.Set(Fault{Stall: true})
	pair(t, p, s)
	p.Set(Fault{Latency: time.Hour})
	send(t, client, "held back")

	require.True(t, goroutinesLeft())
	p.Close()
	require.False(t, goroutinesLeft())
	p.Close()
	assert.Empty(t, p.Conns())
	requireReadError(t, srv, io.EOF)
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.ErrorIs(t, p.Refuse(false), net.ErrClosed)
	_, err = client.Read(make([]byte, 1))
	require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "got %v", err)
}

func TestUseFromManyGoroutines(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			p.Set(Fault{Chunk: 1})
			p.HalfClose(ToClient)
			p.Set(Fault{})
		}
		p.Reset()
		p.Close()
	}()
	for range 20 {
		client, err := net.Dial("tcp", p.Addr())
		if err == nil {
			defer client.Close()
		}
	}
	<-done
	assert.Empty(t, p.Conns())
}
