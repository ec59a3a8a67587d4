package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// lab has the servers of the stream's sections. Each is started when it is first wanted. Unlike the one of the other sections
// they flush their WAL, on a file system in memory where there is one: a disk that is as fast as can be.
type lab struct {
	scale    float64
	own      string // DSN of a server of the user's, "" for none
	slowable bool   // there can be a slow disk
	fast     labServer
	slow     labServer // the same, with flushes that take a millisecond longer
	logical  labServer // the same as fast, that keeps what a logical slot needs
}

// labServer is a server that may not have been started yet.
type labServer struct {
	name     string
	settings map[string]string
	slow     bool
	server   *pgtest.Server
	remove   func()
}

func newLab(scale float64, own string) *lab {
	return &lab{
		scale:    scale,
		own:      own,
		slowable: canSlowDown(),
		fast:     labServer{name: "fast disk"},
		slow:     labServer{name: "slow disk", slow: true},
		logical:  labServer{name: "fast disk", settings: map[string]string{"wal_level": "logical"}},
	}
}

// disks are those that commits are measured on.
func (l *lab) disks() []*labServer {
	if !l.slowable {
		return []*labServer{&l.fast}
	}
	return []*labServer{&l.slow, &l.fast}
}

// slowNote says what the slow disk is, or that there is none.
func (l *lab) slowNote() string {
	if !l.slowable {
		return "The slow disk is left out: it takes Linux and a C compiler to make one."
	}
	return "The fast disk is memory where there is room; on the slow one each flush takes a millisecond longer."
}

func (l *lab) close() {
	for _, s := range []*labServer{&l.fast, &l.slow, &l.logical} {
		if s.server != nil {
			_ = s.server.Close()
		}
		if s.remove != nil {
			s.remove()
		}
	}
}

// start starts the server, if nobody has.
func (s *labServer) start(ctx context.Context) error {
	if s.server != nil {
		return nil
	}
	opts := pgtest.Options{Settings: map[string]string{
		"fsync": "on", "max_connections": "300", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB",
		"shared_preload_libraries": "", "wal_level": "replica",
	}}
	for name, value := range s.settings {
		opts.Settings[name] = value
	}
	if s.slow {
		library, remove, err := buildSlowFlush(ctx)
		if err != nil {
			return err
		}
		s.remove = remove
		opts.Env = []string{"LD_PRELOAD=" + library}
	}
	server, err := pgtest.Start(ctx, opts)
	if err != nil {
		return err
	}
	s.server = server
	if s.slow {
		return checkSlow(ctx, server.DSN())
	}
	return nil
}

// database makes a database with schema pghub. drop removes it.
func (s *labServer) database(ctx context.Context) (dsn string, drop func(), err error) {
	if err := s.start(ctx); err != nil {
		return "", nil, err
	}
	dsn, dropDatabase, err := s.server.CreateDatabase(ctx)
	if err != nil {
		return "", nil, err
	}
	drop = func() { _ = dropDatabase(context.WithoutCancel(ctx)) }
	if err := install(ctx, dsn); err != nil {
		drop()
		return "", nil, err
	}
	return dsn, drop, nil
}

func install(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	return sql.Install(ctx, pool)
}

// rotating has the log rotate every second, which in production it does every day.
const rotating = 2 * time.Second

// node is what a process has that uses the stream.
type node struct {
	pool   *pgxpool.Pool
	hub    *pghub.Hub
	stream *stream.Stream
}

func openNode(ctx context.Context, dsn string, connections int32, cfg stream.Config) (n *node, err error) {
	n = &node{}
	if n.pool, err = newPool(ctx, dsn, connections); err != nil {
		return nil, err
	}
	if n.hub, err = pghub.New(pghub.Config{Pool: n.pool, ReconnectMin: time.Millisecond}); err == nil {
		if err = n.hub.Start(ctx); err == nil {
			n.stream, err = stream.Open(ctx, n.hub, cfg)
		}
	}
	if err != nil {
		n.close(ctx)
		return nil, err
	}
	return n, nil
}

// close stops all of it. It may be called of a node that is not whole.
func (n *node) close(ctx context.Context) {
	if n.hub != nil {
		_ = n.hub.Stop(context.WithoutCancel(ctx))
	}
	n.pool.Close()
}

// errLate says that what was to come did not come in time.
var errLate = errors.New("not all events came in time")

// await waits until something is so.
func await(ctx context.Context, so func() bool) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errLate
		}
	}
	return nil
}
