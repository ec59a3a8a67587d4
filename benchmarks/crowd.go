package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub/internal/fakepg"
)

// crowdTopic is the topic of the consumers of a crowd. The quick consumer's is fanOutTopic.
const crowdTopic = "crowd"

// crowd is many consumers whose handlers do something slow with the one event that they get, and a quick consumer behind
// them: it subscribed after all of them.
type crowd struct {
	server  *fakepg.Server
	conn    awayDialer
	end     func()
	size    int
	release func() // lets the handlers return that wait, and all later ones

	begun, done atomic.Int64 // handlers of the crowd

	mu      sync.Mutex
	sent    []time.Time // events to the quick consumer; owned by mu
	handled tally       // of these
	late    histogram   // owned by the quick consumer's handler until it has handled all
	latest  time.Duration
}

// newCrowd connects a crowd of so many consumers. work is what a handler of the crowd does; released is closed by
// crowd.release. The quick consumer is ready for so many events.
func newCrowd(ctx context.Context, way fanOut, size, events int, work func(released <-chan struct{})) (*crowd, error) {
	released := make(chan struct{})
	c := &crowd{
		server:  fakepg.New(),
		size:    size,
		release: sync.OnceFunc(func() { close(released) }),
		sent:    make([]time.Time, 0, events),
	}
	topics := append(repeat(crowdTopic, size), fanOutTopic)
	var err error
	c.end, err = way(ctx, c.conn.watch(c.server.Config()), topics, func(consumer int) {
		if consumer < size {
			c.begun.Add(1)
			work(released)
			c.done.Add(1)
			return
		}
		n := &c.handled.n
		d := time.Since(c.sentAt(n.Load()))
		c.late.add(d)
		c.latest = max(c.latest, d)
		n.Add(1)
	})
	if err != nil {
		c.server.Close()
		return nil, err
	}
	return c, nil
}

// close returns when no handler is left.
func (c *crowd) close() {
	c.release()
	c.end()
	c.server.Close()
}

// sendCrowd sends an event to everybody in the crowd, and with it one to the quick consumer.
func (c *crowd) sendCrowd() {
	c.note()
	c.server.SendRaw(append(notifications(crowdTopic, 1), notifications(fanOutTopic, 1)...))
}

// sendQuick sends an event to the quick consumer.
func (c *crowd) sendQuick(frame []byte) {
	c.note()
	c.server.SendRaw(frame)
}

// note remembers when an event is sent to the quick consumer.
func (c *crowd) note() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, time.Now())
}

func (c *crowd) sentAt(n int64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[n]
}

// waitForQuick waits until the quick consumer has handled all that was sent.
func (c *crowd) waitForQuick(ctx context.Context) error {
	return waitUntil(ctx, func() bool { return c.handled.n.Load() == int64(len(c.sent)) })
}

// waitForCrowd waits until so many handlers of the crowd are counted.
func (c *crowd) waitForCrowd(ctx context.Context, counter *atomic.Int64) error {
	return waitUntil(ctx, func() bool { return counter.Load() == int64(c.size) })
}

func waitUntil(ctx context.Context, reached func() bool) error {
	for !reached() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

func repeat(topic string, n int) []string {
	topics := make([]string, n)
	for i := range topics {
		topics[i] = topic
	}
	return topics
}

// awayDialer watches how long the reader of a connection is away from it.
type awayDialer struct {
	mu   sync.Mutex
	last *awayConn
}

// watch has the connections that are made with cfg watched.
func (d *awayDialer) watch(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.last = &awayConn{Conn: conn}
		return d.last, nil
	}
	return cfg
}

// longest is the longest time that the reader of the last connection has been away since the call before.
func (d *awayDialer) longest() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.last.longest.Swap(0))
}

// awayConn is a connection that one goroutine at a time reads.
type awayConn struct {
	net.Conn
	left    time.Time    // when the last call of Read returned; owned by the reader
	longest atomic.Int64 // nanoseconds from there to the next call
}

func (c *awayConn) Read(p []byte) (int, error) {
	if !c.left.IsZero() {
		c.longest.Store(max(c.longest.Load(), int64(time.Since(c.left))))
	}
	n, err := c.Conn.Read(p)
	c.left = time.Now()
	return n, err
}
