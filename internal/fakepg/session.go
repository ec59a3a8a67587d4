package fakepg

import (
	"bytes"
	"maps"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// state is how far a session has come.
type state int

const (
	starting state = iota // before AuthenticationOk
	live                  // executes queries
	failing               // has said something FATAL: sends it, then closes
	closed
)

// session is one connection. A reader takes all that the client writes, an executor answers it in order, a writer
// sends the answers: so that neither side ever waits for the other, though a net.Pipe has no buffer.
type session struct {
	server *Server
	conn   net.Conn
	pid    uint32

	// Owned by the executor.
	types    *pgtype.Map
	prepared map[string]*plan
	portals  map[string]*portal
	skipping bool // up to the next Sync

	// The rest is under server.mu.
	state    state
	name     string                     // application_name
	mute     bool                       // as if its network were gone
	channels map[string]bool            // LISTENed and committed
	tx       *transaction               // nil: none
	busy     bool                       // notifications wait for the end of the query, or of the block
	deferred []byte                     // notifications that wait
	in       []pgproto3.FrontendMessage // read and not yet executed
	out      []byte                     // to be sent
	due      int                        // so many bytes of out are sent though the session is frozen
}

// openLocked starts a session and returns the client's end of its connection.
func (s *Server) openLocked() net.Conn {
	client, conn := net.Pipe()
	s.lastPID++
	ss := &session{
		server: s, conn: conn, pid: s.lastPID, channels: map[string]bool{},
		prepared: map[string]*plan{}, portals: map[string]*portal{}, types: pgtype.NewMap(),
	}
	s.sessions = append(s.sessions, ss)
	s.wg.Go(ss.read)
	s.wg.Go(ss.execute)
	s.wg.Go(ss.write)
	return client
}

// endLocked closes the connection and stops the session's goroutines.
func (ss *session) endLocked() {
	ss.state = closed
	ss.conn.Close()
	ss.server.sessions = slices.DeleteFunc(ss.server.sessions, func(other *session) bool { return other == ss })
	ss.server.cond.Broadcast()
}

// failLocked sends resp as the last message of the connection.
func (ss *session) failLocked(resp *pgproto3.ErrorResponse) {
	ss.out = append(ss.out, encode(resp)...)
	ss.state = failing
}

// read queues what the client sends until the connection ends.
func (ss *session) read() {
	s := ss.server
	defer s.change(ss.endLocked)
	backend := pgproto3.NewBackend(ss.conn, nil)
	msg, err := ss.readStartup(backend)
	for ; err == nil; msg, err = backend.Receive() {
		in := keep(msg)
		s.change(func() {
			ss.in = append(ss.in, in)
			if q, ok := in.(*pgproto3.Query); ok {
				s.queries = append(s.queries, q.String)
			}
		})
	}
}

// readStartup reads the first message that is not a request for encryption, which is declined.
func (ss *session) readStartup(backend *pgproto3.Backend) (pgproto3.FrontendMessage, error) {
	for {
		msg, err := backend.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch msg.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := ss.conn.Write([]byte("N")); err != nil {
				return nil, err
			}
		default:
			return msg, nil
		}
	}
}

// keep copies a message, since the one who received it uses it again.
func keep(msg pgproto3.FrontendMessage) pgproto3.FrontendMessage {
	switch msg := msg.(type) {
	case *pgproto3.StartupMessage:
		return &pgproto3.StartupMessage{Parameters: maps.Clone(msg.Parameters)}
	case *pgproto3.Query:
		return &pgproto3.Query{String: msg.String}
	case *pgproto3.Parse:
		return &pgproto3.Parse{Name: msg.Name, Query: msg.Query, ParameterOIDs: slices.Clone(msg.ParameterOIDs)}
	case *pgproto3.Bind:
		c := *msg
		c.ParameterFormatCodes = slices.Clone(msg.ParameterFormatCodes)
		c.ResultFormatCodes = slices.Clone(msg.ResultFormatCodes)
		c.Parameters = slices.Clone(msg.Parameters)
		for i, value := range c.Parameters {
			c.Parameters[i] = bytes.Clone(value)
		}
		return &c
	case *pgproto3.Describe:
		c := *msg
		return &c
	case *pgproto3.Execute:
		c := *msg
		return &c
	case *pgproto3.Close:
		c := *msg
		return &c
	case *pgproto3.Sync:
		return &pgproto3.Sync{}
	case *pgproto3.Flush:
		return &pgproto3.Flush{} // everything is sent at once anyway
	case *pgproto3.Terminate, *pgproto3.CancelRequest: // a cancellation is heard, and without effect
		return &pgproto3.Terminate{}
	}
	return &unsupported{}
}

// unsupported stands for a message of a part of the protocol that the server does not speak, COPY for instance.
type unsupported struct{ pgproto3.Flush }

// write sends what is queued until the session ends.
func (ss *session) write() {
	s := ss.server
	for {
		s.mu.Lock()
		for ss.state != closed && (ss.frozenLocked() && ss.due == 0 || len(ss.out) == 0 && ss.state != failing) {
			s.cond.Wait()
		}
		if ss.state == failing && len(ss.out) == 0 {
			ss.endLocked()
		}
		if ss.state == closed {
			s.mu.Unlock()
			return
		}
		out := ss.out
		if ss.frozenLocked() {
			out = out[:ss.due:ss.due]
		}
		ss.out, ss.due = ss.out[len(out):], 0
		s.mu.Unlock()
		// An error means that the connection is closed, which the reader sees too.
		ss.conn.Write(out)
	}
}

// execute answers what is queued, in order, until the session ends.
func (ss *session) execute() {
	for {
		msg := ss.next()
		switch msg := msg.(type) {
		case *pgproto3.StartupMessage:
			ss.server.change(func() { ss.startLocked(msg.Parameters) })
		case *pgproto3.Query:
			ss.query(msg.String)
		case nil, *pgproto3.Terminate:
			ss.server.change(ss.endLocked)
			return
		case *unsupported: // COPY and function calls are never offered: the client makes no sense
			ss.server.change(func() {
				ss.failedLocked(withSeverity(&pgproto3.ErrorResponse{Code: "08P01", Message: "unexpected message"}, "FATAL"))
			})
		default:
			ss.extended(msg)
		}
	}
}

// next returns the next message to be executed, or nil when the session has ended.
func (ss *session) next() pgproto3.FrontendMessage {
	s := ss.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss.runsLocked() && (ss.frozenLocked() || len(ss.in) == 0) {
		s.cond.Wait()
	}
	if !ss.runsLocked() {
		// Somebody may still be reading the last words: the writer closes behind them.
		for ss.state == failing {
			s.cond.Wait()
		}
		return nil
	}
	msg := ss.in[0]
	ss.in = ss.in[1:]
	return msg
}

// freezeLocked lets what was said before on its way, before the session freezes.
func (ss *session) freezeLocked() {
	if !ss.frozenLocked() {
		ss.due = len(ss.out)
	}
}

// frozenLocked reports whether the session, or the whole server, neither executes nor sends.
func (ss *session) frozenLocked() bool { return ss.mute || ss.server.frozen }

func (ss *session) runsLocked() bool {
	return ss.state == starting || ss.state == live
}

// startLocked answers the start-up message.
func (ss *session) startLocked(params map[string]string) {
	s := ss.server
	s.startups = append(s.startups, params)
	ss.name = params["application_name"]
	if s.startupError != nil {
		ss.failLocked(withSeverity(s.startupError, "FATAL"))
		return
	}
	ss.state = live
	ss.answerLocked(
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "17.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: choose(s.standby, "on", "off")},
		&pgproto3.BackendKeyData{ProcessID: ss.pid, SecretKey: []byte{1, 2, 3, 4}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	)
}

// answerLocked queues messages to be sent, unless the session has failed or ended.
func (ss *session) answerLocked(msgs ...pgproto3.BackendMessage) {
	if ss.runsLocked() {
		ss.out = append(ss.out, encode(msgs...)...)
	}
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// fail returns an error of severity ERROR.
func fail(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

// withSeverity returns resp, or a copy with the given severity if it has none.
func withSeverity(resp *pgproto3.ErrorResponse, severity string) *pgproto3.ErrorResponse {
	if resp.Severity != "" {
		return resp
	}
	c := *resp
	c.Severity, c.SeverityUnlocalized = severity, severity
	return &c
}
