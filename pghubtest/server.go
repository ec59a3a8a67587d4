package pghubtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

const (
	// reconnectMin and reconnectMax keep a test from waiting: a hub would come back after up to 100 ms.
	reconnectMin = time.Millisecond
	reconnectMax = 100 * time.Millisecond

	// patience is how long Await… waits, and how long a hub may take to stop.
	patience = 30 * time.Second
)

// Server is a PostgreSQL server in memory. Make one with [New]. Its methods may be called from any goroutine, but for
// those that may end the test: Hub, NewHub, Pool, AwaitListen and AwaitPublished belong on the goroutine of the test.
type Server struct {
	tb   testing.TB
	fake *fakepg.Server

	mu   sync.Mutex
	pool *pgxpool.Pool // made by the first call of Pool
	hub  *pghub.Hub    // made by the first call of Hub
	hubs []*pghub.Hub  // all that are to be stopped
}

// New starts a server. When the test has ended its faults are healed, its hubs are stopped, its pool and then the server
// itself are closed: no goroutine is left behind. A hub, pool or connection of your own must be ended by you, before that:
// by a defer, or by a t.Cleanup that comes after New. In a test with [testing/synctest] call New inside the bubble.
func New(tb testing.TB) *Server {
	s := &Server{tb: tb, fake: fakepg.New()}
	tb.Cleanup(s.end)
	return s
}

// Hub returns a hub that is started and uses [Server.Pool]. Every call returns the same one. Its configuration is
// [Server.Config].
func (s *Server) Hub() *pghub.Hub {
	s.tb.Helper()
	s.mu.Lock()
	hub := s.hub
	s.mu.Unlock()
	if hub == nil {
		hub = s.NewHub(pghub.Config{})
		s.mu.Lock()
		s.hub = hub
		s.mu.Unlock()
	}
	return hub
}

// NewHub starts another hub, as another process would have it. What cfg leaves out comes from [Server.Config].
// It ends the test if the hub cannot start.
func (s *Server) NewHub(cfg pghub.Config) *pghub.Hub {
	s.tb.Helper()
	own := s.Config()
	if cfg.Pool == nil && cfg.ListenConfig == nil {
		cfg.Pool = own.Pool
	}
	if cfg.ReconnectMin == 0 && cfg.ReconnectMax == 0 {
		cfg.ReconnectMin, cfg.ReconnectMax = own.ReconnectMin, own.ReconnectMax
	}
	hub, err := pghub.New(cfg)
	if err != nil {
		s.tb.Fatalf("pghubtest: %v", err)
	}
	s.mu.Lock()
	s.hubs = append(s.hubs, hub)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := hub.Start(ctx); err != nil {
		s.tb.Fatalf("pghubtest: %v", err)
	}
	return hub
}

// Config returns the configuration of a hub on [Server.Pool], for [pghub.New]. It is the default, but for a shorter wait
// between attempts to connect: 1 to 100 ms.
func (s *Server) Config() pghub.Config {
	s.tb.Helper()
	return pghub.Config{Pool: s.Pool(), ReconnectMin: reconnectMin, ReconnectMax: reconnectMax}
}

// Pool returns a pool of connections to the server. Every call returns the same one.
func (s *Server) Pool() *pgxpool.Pool {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool == nil {
		pool, err := pgxpool.NewWithConfig(context.Background(), s.PoolConfig())
		if err != nil {
			s.tb.Fatalf("pghubtest: %v", err)
		}
		s.pool = pool
	}
	return s.pool
}

// PoolConfig returns a configuration of a pool of your own, which you may change.
func (s *Server) PoolConfig() *pgxpool.Config {
	cfg, err := pgxpool.ParseConfig(fakepg.DSN)
	if err != nil {
		panic(fmt.Sprintf("pghubtest: %v", err))
	}
	cfg.ConnConfig = s.ConnConfig()
	return cfg
}

// ConnConfig returns a configuration of a connection of your own, which you may change.
func (s *Server) ConnConfig() *pgx.ConnConfig { return s.fake.Config() }

// end ends everything that the server has made.
func (s *Server) end() {
	s.heal()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.mu.Lock()
	hubs, pool := s.hubs, s.pool
	s.mu.Unlock()
	for _, hub := range hubs {
		if err := hub.Stop(ctx); err != nil {
			s.tb.Errorf("pghubtest: a hub did not stop, since a handler did not return: %v", err)
		}
	}
	if pool != nil {
		s.closePool(ctx, pool)
	}
	s.fake.Close()
}

// closePool closes the pool, which waits for connections that somebody has not given back.
func (s *Server) closePool(ctx context.Context, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-ctx.Done():
		s.tb.Error("pghubtest: a connection of the pool was not given back: a transaction without Rollback, or Rows without Close?")
	}
}
