// Package fakepg is a PostgreSQL server in memory, made for testing/synctest: it talks over net.Pipe, and its
// goroutines wait for nothing but channels, pipes and conditions.
//
// It knows what a hub and its users need of a server: start-up, LISTEN and UNLISTEN, NOTIFY and pg_notify, transactions
// with savepoints, probes, and the check with pg_is_in_recovery, in the simple and in the extended protocol. Any other
// SQL is refused with SQLSTATE 0A000, unless Handle has taught the server an answer. A test can hold, refuse and break
// things at exact points. Package pghubtest is what users of the library see of it.
//
// No call waits for a client: what the server says is queued without bound. Every method may be called from any
// goroutine, also from the functions given to Hold, RefuseQuery and Handle, except that those must not call Close.
package fakepg

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// NotifierPID is the process id that sends what Server.Notify sends.
const NotifierPID = 999

// Server is the fake server. Make one with New, inside the synctest bubble where there is one, and Close it.
type Server struct {
	wg sync.WaitGroup // goroutines of all sessions; Add under mu

	mu       sync.Mutex
	cond     *sync.Cond // on mu; broadcast whenever anything below changes, here or in a session
	sessions []*session // not yet closed, oldest first
	lastPID  uint32
	closed   chan struct{} // closed by Close

	dials   []time.Time
	refused error         // of every dial
	hung    chan struct{} // nil: dials do not hang; closed when healed

	startups      []map[string]string
	startupError  *pgproto3.ErrorResponse
	standby, deaf bool
	frozen        bool
	backendPID    func(uint32) uint32
	holds         []*hold
	refuse        func(string) *pgproto3.ErrorResponse
	queries       []string
	foreign       []*foreign
	published     []Notification
}

// Notification is one that a client has committed.
type Notification struct {
	PID              uint32 // of its connection
	Channel, Payload string
}

// hold is one call of Hold.
type hold struct {
	match    func(string) bool
	released bool // Server.mu
}

// New returns a healthy server.
func New() *Server {
	s := &Server{lastPID: 1000, closed: make(chan struct{})}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// Close closes all connections, fails every later dial, and waits until all goroutines have ended.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.isClosedLocked() {
		close(s.closed)
	}
	s.killLocked()
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) isClosedLocked() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// change runs f with the lock held and wakes everybody who waits.
func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.cond.Broadcast()
}

// FailStartup answers every later start-up with resp instead of AuthenticationOk, and closes the connection. An
// empty Severity means FATAL. nil heals.
func (s *Server) FailStartup(resp *pgproto3.ErrorResponse) {
	s.change(func() { s.startupError = resp })
}

// SetStandby makes the server a hot standby, which refuses LISTEN and NOTIFY, or promotes it. It concerns queries
// answered from now on, also those of live sessions.
func (s *Server) SetStandby(on bool) {
	s.change(func() { s.standby = on })
}

// SetDeaf makes the server accept LISTEN and deliver nothing, as a pooler in transaction mode does.
func (s *Server) SetDeaf(on bool) {
	s.change(func() { s.deaf = on })
}

// SetBackendPID sets what pg_backend_pid() returns, given the process id of the session's BackendKeyData: behind a
// pooler the two differ. nil: they are the same.
func (s *Server) SetBackendPID(f func(keyPID uint32) uint32) {
	s.change(func() { s.backendPID = f })
}

// Freeze stops the server as SIGSTOP does: it takes what clients write, as the kernel's buffers would, but executes
// and says nothing, notifications included. What it had said before arrives. Thawed, it catches up.
func (s *Server) Freeze(on bool) {
	s.change(func() {
		if on {
			for _, ss := range s.sessions {
				ss.freezeLocked()
			}
		}
		s.frozen = on
	})
}

// Hold keeps the queries that match from being executed until release is called, and the later queries of the same
// session behind them. The session still sends notifications, as if the query were on its way to the server. match
// sees a query once, when its turn has come; a query held by several calls waits for all of them. release may be
// called more than once.
func (s *Server) Hold(match func(sql string) bool) (release func()) {
	h := &hold{match: match}
	s.change(func() { s.holds = append(s.holds, h) })
	return func() {
		s.change(func() {
			h.released = true
			s.holds = slices.DeleteFunc(s.holds, func(other *hold) bool { return other == h })
		})
	}
}

// RefuseQuery asks f about every query just before it is executed, and answers with what f returns, unless that is
// nil; nothing the query says is then done. An empty Severity means ERROR. After FATAL the connection is closed.
// A nil f heals.
func (s *Server) RefuseQuery(f func(sql string) *pgproto3.ErrorResponse) {
	s.change(func() { s.refuse = f })
}

// Notify sends a notification to every session that listens on channel.
func (s *Server) Notify(channel, payload string) {
	s.change(func() { s.notifyLocked(NotifierPID, channel, payload) })
}

func (s *Server) notifyLocked(pid uint32, channel, payload string) {
	if s.deaf {
		return
	}
	n := encode(&pgproto3.NotificationResponse{PID: pid, Channel: channel, Payload: payload})
	for _, ss := range s.sessions {
		switch {
		case ss.state != live || !ss.channels[channel]:
		case ss.busy:
			ss.deferred = append(ss.deferred, n...)
		default:
			ss.out = append(ss.out, n...)
		}
	}
}

// Send sends messages of any kind to every live session.
func (s *Server) Send(msgs ...pgproto3.BackendMessage) {
	s.SendRaw(encode(msgs...))
}

// SendRaw sends bytes to every live session.
func (s *Server) SendRaw(b []byte) {
	s.change(func() {
		for _, ss := range s.sessions {
			if ss.state == live {
				ss.out = append(ss.out, b...)
			}
		}
	})
}

// Kill closes all connections at once. What clients have not read yet is lost.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

func (s *Server) killLocked() {
	for _, ss := range slices.Clone(s.sessions) {
		ss.endLocked()
	}
	s.cond.Broadcast()
}

// Terminate ends all live sessions as pg_terminate_backend or a shutdown does: FATAL 57P01, behind all that was
// sent before, then the end of the connection.
func (s *Server) Terminate() {
	s.TerminateThose(func(string, []string) bool { return true })
}

// TerminateThose is Terminate for the sessions that match: by their application_name, and what they listen to.
func (s *Server) TerminateThose(match func(application string, listening []string) bool) {
	s.change(func() {
		for _, ss := range s.sessions {
			if ss.state == live && match(ss.name, slices.Sorted(maps.Keys(ss.channels))) {
				ss.failLocked(withSeverity(&pgproto3.ErrorResponse{
					Code: "57P01", Message: "terminating connection due to administrator command",
				}, "FATAL"))
			}
		}
	})
}

// Mute makes all connections that are open now half-open: what clients write is taken, and nothing comes back, until they
// close. Later connections are not concerned.
func (s *Server) Mute() {
	s.change(func() {
		for _, ss := range s.sessions {
			ss.freezeLocked()
			ss.mute = true
		}
	})
}

// encode returns msgs in their wire format.
func encode(msgs ...pgproto3.BackendMessage) []byte {
	var b []byte
	for _, m := range msgs {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic("fakepg: " + err.Error())
		}
	}
	return b
}
