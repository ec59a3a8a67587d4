package fakepg

import (
	"context"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// DSN is that of every server, for who dials by Server.Dial. It names whatever the environment (PGPORT, PGSSLROOTCERT …) might
// say otherwise, but for PGSERVICE, which cannot be overruled.
const DSN = "postgres://user@fake:5432/db?sslmode=disable&sslrootcert=&sslcert=&sslkey=&connect_timeout=0&target_session_attrs=any"

// Config returns a new configuration that connects to the server. The caller may change it.
func (s *Server) Config() *pgx.ConnConfig {
	cfg, err := pgx.ParseConfig(DSN)
	if err != nil {
		panic("fakepg: " + err.Error())
	}
	cfg.DialFunc = s.Dial
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	return cfg
}

// Dial connects to the server whatever the address. It is a pgconn.DialFunc, for configurations that lead to
// several servers.
func (s *Server) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	// pgx opens a second connection to the address of a net.Pipe, which is "pipe", to ask for the cancellation of
	// a query. That is no connection attempt.
	attempt := network != "pipe"
	if err := s.admit(ctx, attempt); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosedLocked() {
		return nil, errRefused()
	}
	return s.openLocked(), nil
}

// admit records a dial and waits while dials hang.
func (s *Server) admit(ctx context.Context, attempt bool) error {
	s.mu.Lock()
	if attempt {
		s.dials = append(s.dials, time.Now())
	}
	refused, hung := s.refused, s.hung
	s.mu.Unlock()

	if refused != nil {
		return refused
	}
	if hung != nil {
		select {
		case <-hung:
		case <-ctx.Done():
		case <-s.closed:
		}
	}
	if ctx.Err() != nil {
		return &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	return nil
}

func errRefused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// Dials returns when each connection attempt came, successful or not.
func (s *Server) Dials() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dials)
}

// RefuseDials fails every later dial with err. nil heals.
func (s *Server) RefuseDials(err error) {
	s.change(func() { s.refused = err })
}

// HangDials makes every later dial wait until its context ends, the server is closed, or the dials are healed with
// HangDials(false): then it connects.
func (s *Server) HangDials(on bool) {
	s.change(func() {
		switch {
		case on && s.hung == nil:
			s.hung = make(chan struct{})
		case !on && s.hung != nil:
			close(s.hung)
			s.hung = nil
		}
	})
}
