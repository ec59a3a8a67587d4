package faultproxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBlackhole(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn) {
		p.SetDirection(d, Fault{Blackhole: true})
		send(t, from, string(pattern(much)))
		requireSilent(t, to)
		send(t, to, "the other way is open")
		requireArrives(t, from, "the other way is open")
	})
}

func TestBlackholeSwallowsTheEnd(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, _ Direction, from, to *net.TCPConn) {
		p.Set(Fault{Blackhole: true})
		require.NoError(t, from.CloseWrite())
		requireSilent(t, to)
		p.Set(Fault{})
		requireReadError(t, to, io.EOF)
	})
}

func TestBlackholeSwallowsAReset(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, _ Direction, from, to *net.TCPConn) {
		p.Set(Fault{Blackhole: true})
		require.NoError(t, from.SetLinger(0))
		require.NoError(t, from.Close())
		requireSilent(t, to)
		p.Set(Fault{})
		requireReadError(t, to, syscall.ECONNRESET)
	})
}

func TestBlackholeForFutureConns(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	p.Set(Fault{Blackhole: true})
	client, srv := pair(t, p, s)
	send(t, client, "lost")
	requireSilent(t, srv)
	send(t, srv, "lost too")
	requireSilent(t, client)
}

func TestStallLosesNothing(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn) {
		p.SetDirection(d, Fault{Stall: true})
		want := pattern(tooMuch)
		require.NoError(t, from.SetWriteDeadline(time.Now().Add(silence)))
		n, err := from.Write(want)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the sender's buffers fill up")
		requireSilent(t, to)

		p.Set(Fault{})
		require.NoError(t, from.SetWriteDeadline(time.Time{}))
		go func() {
			from.Write(want[n:])
			from.CloseWrite()
		}()
		require.NoError(t, to.SetReadDeadline(time.Now().Add(patience)))
		got, err := io.ReadAll(to)
		require.NoError(t, err)
		require.True(t, string(want) == string(got), "bytes differ")
	})
}

func TestStallInMidStream(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, _ Direction, from, to *net.TCPConn) {
		conn := p.Conns()[0]
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 50 {
				conn.Set(Fault{Stall: true})
				conn.Set(Fault{Chunk: 1000})
			}
			conn.Set(Fault{})
		}()
		requirePasses(t, from, to)
		<-done
	})
}

func TestDribble(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn) {
		p.SetDirection(d, Fault{Chunk: 1, Pause: time.Hour})
		send(t, from, "abc")
		requireArrives(t, to, "a")
		requireSilent(t, to)
		p.SetDirection(d, Fault{Chunk: 1, Pause: 2 * time.Hour})
		requireArrives(t, to, "b")
		requireSilent(t, to)
		p.Set(Fault{})
		requireArrives(t, to, "c")
	})
}

func TestLatency(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn) {
		p.SetDirection(d, Fault{Latency: silence})
		start := time.Now()
		send(t, from, "late")
		requireArrives(t, to, "late")
		assert.GreaterOrEqual(t, time.Since(start), silence)

		p.SetDirection(d, Fault{Latency: time.Hour})
		send(t, from, "healed")
		requireSilent(t, to)
		p.Set(Fault{})
		requireArrives(t, to, "healed")
	})
}

func TestReset(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	client, srv := pair(t, p, s)
	p.Reset()
	assert.Empty(t, p.Conns())
	requireReadError(t, client, syscall.ECONNRESET)
	requireReadError(t, srv, syscall.ECONNRESET)
}

func TestResetOfOneConn(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.addr())
	client, _ := pair(t, p, s)
	other, otherSrv := pair(t, p, s)
	p.Conns()[0].Reset()
	requireReadError(t, client, syscall.ECONNRESET)
	send(t, other, "alive")
	requireArrives(t, otherSrv, "alive")
}

func TestResetIsPassedOn(t *testing.T) {
	eachDirection(t, func(t *testing.T, _ *Proxy, _ Direction, from, to *net.TCPConn) {
		require.NoError(t, from.SetLinger(0))
		require.NoError(t, from.Close())
		requireReadError(t, to, syscall.ECONNRESET)
	})
}

func TestHalfClose(t *testing.T) {
	eachDirection(t, func(t *testing.T, p *Proxy, d Direction, from, to *net.TCPConn) {
		p.HalfClose(d)
		requireReadError(t, to, io.EOF)
		send(t, from, string(pattern(much)))
		send(t, to, "the other way is open")
		requireArrives(t, from, "the other way is open")
	})
}
