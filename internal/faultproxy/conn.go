package faultproxy

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds the wait for an unreachable target, and with it Proxy.Close.
const dialTimeout = 5 * time.Second

// Conn is one client's connection through the proxy.
type Conn struct {
	client  *net.TCPConn
	ctx     context.Context    // ends with the connection
	cancel  context.CancelFunc // ends ctx
	streams [2]*stream         // by Direction

	mu     sync.Mutex
	server *net.TCPConn // nil until dialed; mu
	closed bool         // mu
	reset  bool         // how it was closed; mu
}

func newConn(ctx context.Context, client *net.TCPConn, faults [2]Fault) *Conn {
	c := &Conn{client: client}
	c.ctx, c.cancel = context.WithCancel(ctx)
	for d, f := range faults {
		c.streams[d] = newStream(f)
	}
	return c
}

// ClientAddr returns the client's address.
func (c *Conn) ClientAddr() net.Addr {
	return c.client.RemoteAddr()
}

// Set applies f to both directions. The zero Fault heals.
func (c *Conn) Set(f Fault) {
	c.SetDirection(ToServer, f)
	c.SetDirection(ToClient, f)
}

// SetDirection applies f to one direction.
func (c *Conn) SetDirection(d Direction, f Fault) {
	c.streams[d].set(f)
}

// HalfClose ends the direction d: its receiver reads the end of the stream, and what its sender writes from now on
// is swallowed. The other direction goes on.
func (c *Conn) HalfClose(d Direction) {
	c.streams[d].halfClose()
}

// Reset ends the connection with a RST to both ends.
func (c *Conn) Reset() {
	c.end(true)
}

// Close closes the connection to both ends.
func (c *Conn) Close() {
	c.end(false)
}

// end closes both sockets, once.
func (c *Conn) end(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed, c.reset = true, reset
	c.cancel()
	c.closeLocked(c.client)
	if c.server != nil {
		c.closeLocked(c.server)
	}
}

// closeLocked closes one socket in the way the connection ended.
func (c *Conn) closeLocked(socket *net.TCPConn) {
	if c.reset {
		socket.SetLinger(0)
	}
	socket.Close()
}

// serve connects to target and passes bytes on until both directions have ended.
func (c *Conn) serve(target string) {
	server, err := c.dial(target)
	if err != nil {
		// The server cannot be reached: the client hears of it as soon as anything gets through to it.
		c.streams[ToClient].untilOpen(c.ctx)
		c.Reset()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.pump(ToServer, c.client, server) })
	wg.Go(func() { c.pump(ToClient, server, c.client) })
	wg.Wait()
	c.Close()
}

// dial connects to target. It is not cut short when the connection ends meanwhile: the server, which may have accepted
// already, shall see that end as it was meant.
func (c *Conn) dial(target string) (*net.TCPConn, error) {
	conn, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		return nil, err
	}
	server := conn.(*net.TCPConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.closeLocked(server)
		return nil, net.ErrClosed
	}
	c.server = server
	return server, nil
}

// pump runs one direction. A broken source is reported to the destination, and the other way round, by a reset, but
// only when the fault of that direction lets it through.
func (c *Conn) pump(d Direction, src, dst *net.TCPConn) {
	readErr, writeErr := c.streams[d].run(c.ctx, src, dst)
	switch {
	case readErr != nil:
		c.streams[d].untilOpen(c.ctx)
		c.Reset()
	case writeErr != nil:
		c.streams[1-d].untilOpen(c.ctx)
		c.Reset()
	}
}
