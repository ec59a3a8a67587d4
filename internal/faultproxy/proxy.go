// Package faultproxy is a TCP proxy for tests. It stands in front of a real PostgreSQL server and cuts, stalls,
// delays, dribbles or swallows what passes through it, on command.
//
// Bytes are never reordered, and never lost except where a fault says so. A Proxy and its connections may be used
// from any goroutine.
package faultproxy

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Proxy accepts connections on a port of its own and passes each on to the target.
type Proxy struct {
	addr *net.TCPAddr       // never changes, not even while the listener is closed
	ctx  context.Context    // ends with Close, after all connections
	stop context.CancelFunc // ends ctx
	wg   sync.WaitGroup     // accept loop and connections; Add under mu

	mu       sync.Mutex
	listener *net.TCPListener // nil while connections are refused; mu
	target   string           // mu
	faults   [2]Fault         // of future connections, by Direction; mu
	conns    []*Conn          // oldest first; mu
	closed   bool             // mu
}

// New starts a proxy for target, a "host:port", on a free port of 127.0.0.1. Close ends it.
func New(target string) (*Proxy, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{addr: l.Addr().(*net.TCPAddr), listener: l, target: target}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(func() { p.accept(l) })
	return p, nil
}

// Addr returns the "host:port" on which the proxy listens.
func (p *Proxy) Addr() string {
	return p.addr.String()
}

// SetTarget sends later connections to addr, as a failover does. Connections already made stay where they are.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Refuse closes the listening port, so that the system refuses new connections, or opens the same port again.
// Connections already made are not touched. The error says that the port could not be opened again.
func (p *Proxy) Refuse(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return net.ErrClosed
	case on && p.listener != nil:
		p.listener.Close()
		p.listener = nil
	case !on && p.listener == nil:
		l, err := net.ListenTCP("tcp", p.addr)
		if err != nil {
			return fmt.Errorf("faultproxy: %w", err)
		}
		p.listener = l
		p.wg.Go(func() { p.accept(l) })
	}
	return nil
}

// Set applies f to both directions of all connections, present and future. The zero Fault heals.
func (p *Proxy) Set(f Fault) {
	p.SetDirection(ToServer, f)
	p.SetDirection(ToClient, f)
}

// SetDirection applies f to one direction of all connections, present and future.
func (p *Proxy) SetDirection(d Direction, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[d] = f
	for _, c := range p.conns {
		c.SetDirection(d, f)
	}
}

// Conns returns the live connections, oldest first. A connection is live from the moment it is accepted, which may
// be a little later than the client's dial returns, until it is closed, reset, or both its directions have ended.
func (p *Proxy) Conns() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var live []*Conn
	for _, c := range p.conns {
		if c.ctx.Err() == nil {
			live = append(live, c)
		}
	}
	return live
}

// Reset resets all connections: both their ends get a RST.
func (p *Proxy) Reset() {
	for _, c := range p.Conns() {
		c.Reset()
	}
}

// HalfClose ends one direction of all connections.
func (p *Proxy) HalfClose(d Direction) {
	for _, c := range p.Conns() {
		c.HalfClose(d)
	}
}

// Close closes the port and all connections, and waits until every goroutine of the proxy has ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.closed = true
	conns := p.conns
	p.mu.Unlock()

	for _, c := range conns {
		c.Close()
	}
	p.stop()
	p.wg.Wait()
}

// accept takes connections from l until it is closed.
func (p *Proxy) accept(l *net.TCPListener) {
	for {
		client, err := l.AcceptTCP()
		if err != nil {
			return
		}
		p.open(client)
	}
}

// open starts to serve a client.
func (p *Proxy) open(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		client.Close()
		return
	}
	c := newConn(p.ctx, client, p.faults)
	p.conns = append(p.conns, c)
	target := p.target
	p.wg.Go(func() {
		c.serve(target)
		p.forget(c)
	})
}

// forget removes a connection that has ended.
func (p *Proxy) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rest []*Conn
	for _, other := range p.conns {
		if other != c {
			rest = append(rest, other)
		}
	}
	p.conns = rest
}
