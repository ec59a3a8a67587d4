package pghubtest

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pghub/pghub/internal/fakepg"
)

// Disconnect ends the connections that listen, those of hubs and any other, as an administrator or a restart of the
// server does. What was sent before still arrives. A hub tells its consumers disconnect, connects again within a few
// milliseconds, and tells them reconnect. Other connections, such as those of the pool, go on.
func (s *Server) Disconnect() {
	s.fake.TerminateThose(func(application string, listening []string) bool {
		return len(listening) > 0 || application == "pghub" || strings.HasPrefix(application, "pghub:")
	})
}

// Down ends all connections at once, as a crash of the server does, and refuses new ones until [Server.Up]. What a client
// had not read yet is lost.
func (s *Server) Down() {
	s.fake.RefuseDials(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	s.fake.Kill()
}

// Up accepts connections again, after [Server.Down].
func (s *Server) Up() { s.fake.RefuseDials(nil) }

// Stall makes the server silent, as one that hangs or that the network has lost: connections stay open, new ones too, and
// nothing is answered or sent until [Server.Resume]. What was sent before still arrives. A hub finds that out by its probe, after 15 s unless its Config
// says otherwise.
func (s *Server) Stall() { s.fake.Freeze(true) }

// Resume ends [Server.Stall]. What clients have said meanwhile is done now, as far as they are still connected.
func (s *Server) Resume() { s.fake.Freeze(false) }

// HalfOpen makes all connections that are open now half-open, as a network does that has forgotten them: they take what
// is written, and never answer again. What was sent before still arrives. New connections work.
func (s *Server) HalfOpen() { s.fake.Mute() }

// Refuse asks f about each statement, just before it is executed, whether to refuse it: LISTEN for instance. f runs on the
// goroutine of a connection. What it returns is sent to the client: a *[pgconn.PgError] as it is (Severity FATAL ends the
// connection), any other error with SQLSTATE XX000; nil lets the statement pass. In the simple protocol f sees the query
// as it was sent, which may be several LISTEN in one. Refuse(nil) refuses nothing.
func (s *Server) Refuse(f func(sql string) error) {
	if f == nil {
		s.fake.RefuseQuery(nil)
		return
	}
	s.fake.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
		err := f(sql)
		if err == nil {
			return nil
		}
		return responseOf(err)
	})
}

// RefuseConnect has every new connection refused with err, such as &pgconn.PgError{Code: "53300"}; nil accepts them again.
func (s *Server) RefuseConnect(err *pgconn.PgError) {
	if err == nil {
		s.fake.FailStartup(nil)
		return
	}
	fatal := *err
	fatal.Severity = "FATAL"
	s.fake.FailStartup(fakepg.ErrorResponse(&fatal))
}

func responseOf(err error) *pgproto3.ErrorResponse {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		pgErr = &pgconn.PgError{Code: "XX000", Message: err.Error()}
	}
	return fakepg.ErrorResponse(pgErr)
}

// heal ends all faults, so that hubs can stop in peace.
func (s *Server) heal() {
	s.Up()
	s.Resume()
	s.Refuse(nil)
	s.RefuseConnect(nil)
}
