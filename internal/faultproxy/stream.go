package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex
	fault   Fault         // mu
	changed chan struct{} // closed and replaced when fault or cut changes; mu
	cut     bool          // half-closed: what comes is swallowed; mu
	dst     *net.TCPConn  // nil until the stream runs; mu
}

func newStream(f Fault) *stream {
	return &stream{fault: f, changed: make(chan struct{})}
}

// set replaces the fault and wakes whoever waits because of the old one.
func (s *stream) set(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	s.wakeLocked()
}

// halfClose ends the stream for its receiver.
func (s *stream) halfClose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	if s.dst != nil {
		s.dst.CloseWrite()
	}
	s.wakeLocked()
}

func (s *stream) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// run passes bytes from src to dst until one of them breaks. Both errors are nil when the source has ended and the
// destination was told so.
func (s *stream) run(ctx context.Context, src, dst *net.TCPConn) (readErr, writeErr error) {
	s.start(dst)
	buf := make([]byte, 32<<10)
	for {
		if err := s.untilFlowing(ctx); err != nil {
			return err, nil
		}
		n, err := src.Read(buf)
		if writeErr := s.pass(ctx, dst, buf[:n]); writeErr != nil {
			return nil, writeErr
		}
		if errors.Is(err, io.EOF) {
			s.untilOpen(ctx)
			s.halfClose()
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

// start makes dst known to halfClose, which may have come first.
func (s *stream) start(dst *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dst = dst
	if s.cut {
		dst.CloseWrite()
	}
}

// pass writes what one read brought to dst, as the fault of the moment wants it.
func (s *stream) pass(ctx context.Context, dst *net.TCPConn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if f, changed, _ := s.state(); f.Latency > 0 {
		wait(ctx, f.Latency, changed)
	}
	for len(b) > 0 {
		if err := s.untilFlowing(ctx); err != nil {
			return err
		}
		f, changed, cut := s.state()
		if f.Blackhole || cut {
			return nil
		}
		n := len(b)
		if f.Chunk > 0 {
			n = min(n, f.Chunk)
		}
		if _, err := dst.Write(b[:n]); err != nil {
			if _, _, cut := s.state(); cut {
				return nil
			}
			return err
		}
		b = b[n:]
		if f.Pause > 0 {
			wait(ctx, f.Pause, changed)
		}
	}
	return nil
}

// state returns the fault of the moment, the channel that closes when it changes, and whether the stream is cut.
func (s *stream) state() (f Fault, changed <-chan struct{}, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, s.changed, s.cut
}

// untilFlowing waits while the stream is stalled.
func (s *stream) untilFlowing(ctx context.Context) error {
	return s.until(ctx, func(f Fault) bool { return !f.Stall })
}

// untilOpen waits while nothing, not even the end of the stream, gets through.
func (s *stream) untilOpen(ctx context.Context) error {
	return s.until(ctx, func(f Fault) bool { return !f.Stall && !f.Blackhole })
}

// until waits for a fault that is ok, or the end of ctx.
func (s *stream) until(ctx context.Context, ok func(Fault) bool) error {
	for {
		f, changed, _ := s.state()
		if ok(f) {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait lets d pass, or less if the fault changes or ctx ends.
func wait(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
}
