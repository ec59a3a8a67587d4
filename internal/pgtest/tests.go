package pgtest

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	sharedTimeout  = 3 * time.Minute // a container's image may have to be fetched
	cleanupTimeout = time.Minute     // a checkpoint is part of dropping a database
)

// shared is the one server of a test process: a server a test would cost each of them a second. Main closes it.
var shared sharedServer

type sharedServer struct {
	once   sync.Once
	server *Server
	err    error
}

func (s *sharedServer) get() (*Server, error) {
	s.once.Do(func() {
		// Not the context of the first test: the others need the server too.
		ctx, cancel := context.WithTimeout(context.Background(), sharedTimeout)
		defer cancel()
		s.server, s.err = open(ctx, firstSet(envTestDSN, envDSN), Options{})
	})
	return s.server, s.err
}

func (s *sharedServer) close() error {
	s.once.Do(func() {}) // none is started any more
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// Shared returns the server of this test process, which the first call finds or starts. Tests do not stop it, and
// work in databases of their own.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	server, err := shared.get()
	if err != nil {
		missing(tb, err)
	}
	return server
}

// Database returns the DSN of a fresh database on the shared server. It is dropped when the test has ended.
func Database(tb testing.TB) string {
	tb.Helper()
	return database(tb, "")
}

// Latin1Database is Database in the encoding LATIN1, which is what connections to it speak unless they say otherwise.
func Latin1Database(tb testing.TB) string {
	tb.Helper()
	return database(tb, " ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
}

func database(tb testing.TB, options string) string {
	tb.Helper()
	dsn, drop, err := Shared(tb).createDatabase(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	cleanup(tb, drop)
	return dsn
}

// Private returns a server of the test's own, started from binaries so that the test may stop, kill and replicate
// it. It is removed when the test has ended; the end of its log is shown if the test has failed.
func Private(tb testing.TB, opts Options) *Server {
	tb.Helper()
	bin, err := opts.binaries()
	if err == nil && bin == "" {
		err = ErrUnavailable
	}
	if err != nil {
		missing(tb, err)
	}
	server, err := startBinaries(tb.Context(), bin, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the server's log:\n%s", server.local.folder.logTail(0))
		}
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server
}

// Pool returns a pool, closed when the test has ended. It does not wait for a first connection.
func Pool(tb testing.TB, dsn string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	cleanup(tb, func(ctx context.Context) error {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			pool.Close() // waits for connections that somebody has not given back
		}()
		select {
		case <-closed:
			return nil
		case <-ctx.Done():
			return errors.New("pgtest: a connection of the pool was not given back")
		}
	})
	return pool
}

// Conn returns a connection, closed when the test has ended.
func Conn(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	cleanup(tb, conn.Close)
	return conn
}

// Patience is how long a test waits for what should come at once.
const Patience = time.Minute

// Within returns a context for what should come at once: it ends after [Patience], and with the test.
func Within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	tb.Cleanup(cancel)
	return ctx
}

// cleanup registers what is to be done when the test has ended. The context of the test is over by then.
func cleanup(tb testing.TB, do func(context.Context) error) {
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), cleanupTimeout)
		defer cancel()
		if err := do(ctx); err != nil {
			tb.Error(err)
		}
	})
}

// missing ends a test that gets no server: it is skipped if this machine has no PostgreSQL, but fails on a
// continuous integration, which is there to test, and where a PostgreSQL that should be there does not work.
func missing(tb testing.TB, err error) {
	tb.Helper()
	if skips(err, os.Getenv("CI")) {
		tb.Skipf("NOT TESTED: %v", err)
	}
	tb.Fatal(err)
}

func skips(err error, ci string) bool {
	return errors.Is(err, ErrUnavailable) && ci == ""
}
