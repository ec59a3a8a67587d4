package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// A Server is a PostgreSQL to test against. Its methods may be called from several goroutines.
type Server struct {
	dsn     string
	version int
	local   *instance // nil: the server is not ours to stop
	tls     bool      // a managed server that offers encryption
	closing sync.Once
	end     func() error // ends and removes the server; nil for one from the environment
}

// newServer returns a managed server that has been started.
func newServer(local *instance, version int, tls bool) *Server {
	return &Server{dsn: managedDSN(local.address(), tls), version: version, local: local, tls: tls, end: local.remove}
}

// DSN returns the URL of the maintenance database, with the right to create others.
func (s *Server) DSN() string { return s.dsn }

// DSNFor returns the DSN of another database of the server.
func (s *Server) DSNFor(database string) string { return withDatabase(s.dsn, database) }

// Version returns the server's version in the form of server_version_num, for example 150018.
func (s *Server) Version() int { return s.version }

// Managed says whether the server runs from binaries in a folder of ours, so that it may be stopped, killed,
// signalled and replicated. Other servers answer [ErrNotManaged] to that.
func (s *Server) Managed() bool { return s.local != nil }

// Dir returns the data folder of a managed server, else "".
func (s *Server) Dir() string {
	if s.local == nil {
		return ""
	}
	return s.local.folder.data()
}

// LogFile returns the path of a managed server's log, else "".
func (s *Server) LogFile() string {
	if s.local == nil {
		return ""
	}
	return s.local.folder.log()
}

// CreateDatabase makes an empty database with a name of its own. What it returns as drop disconnects everybody
// from the database and removes it.
func (s *Server) CreateDatabase(ctx context.Context) (dsn string, drop func(context.Context) error, err error) {
	return s.createDatabase(ctx, "")
}

func (s *Server) createDatabase(ctx context.Context, options string) (dsn string, drop func(context.Context) error, err error) {
	name := "pghub_" + strings.ToLower(rand.Text())[:16]
	identifier := pgx.Identifier{name}.Sanitize()
	// template0, because nobody can be connected to it, which would refuse to copy it.
	if err := s.exec(ctx, "CREATE DATABASE "+identifier+" TEMPLATE template0"+options); err != nil {
		return "", nil, fmt.Errorf("pgtest: create a database: %w", err)
	}
	drop = func(ctx context.Context) error {
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+identifier+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("pgtest: drop a database: %w", err)
		}
		return nil
	}
	return s.DSNFor(name), drop, nil
}

// exec runs one statement in the maintenance database.
func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// Stop ends the server and waits for it, half a minute at most. A stopped server stays as it is.
func (s *Server) Stop(mode StopMode) error {
	if s.local == nil {
		return ErrNotManaged
	}
	return s.local.stop(mode)
}

// Kill ends all processes of the server with SIGKILL, as a crash would, and waits until they are gone.
func (s *Server) Kill() error {
	if s.local == nil {
		return ErrNotManaged
	}
	return s.local.kill()
}

// Start starts a server again that was stopped or killed, on the same port, and waits until it accepts connections.
func (s *Server) Start(ctx context.Context) error {
	if s.local == nil {
		return ErrNotManaged
	}
	return s.local.start(ctx)
}

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context, mode StopMode) error {
	if err := s.Stop(mode); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Signal sends a signal to a backend, which pg_backend_pid names. Freeze holds it, Thaw lets it go on; after
// SIGKILL the server restarts all backends.
func (s *Server) Signal(pid int, sig syscall.Signal) error {
	if s.local == nil {
		return ErrNotManaged
	}
	return s.local.signalBackend(pid, sig)
}

// Reload makes the server read its configuration files again. It does not wait for that.
func (s *Server) Reload() error {
	if s.local == nil {
		return ErrNotManaged
	}
	return s.local.reload()
}

// Close ends a server that was started by this package, stopped backends included, and removes its data. It may be
// called again; a server from the environment goes on.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		if s.end != nil {
			err = s.end()
		}
	})
	return err
}
