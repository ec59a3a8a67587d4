package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// State of a [Hub].
type State int

// The states of a hub's life. While it is neither idle nor stopped it goes back and forth between connecting, listening
// and waiting.
const (
	StateIdle       State = iota // before Start
	StateConnecting              // opening a connection, or listening to not all of the topics yet
	StateListening               // everything subscribed to is in effect, but for topics that the server refuses: see ActionReconnect
	StateWaiting                 // until the next attempt to connect
	StateStopping                // Stop has been called
	StateStopped                 // everything has ended
)

func (s State) String() string {
	names := [...]string{"idle", "connecting", "listening", "waiting", "stopping", "stopped"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return names[s]
}

// MarshalText gives the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// supervisor owns the sessions of a hub, one after another. It does not know what kind of source they come from.
type supervisor struct {
	cfg    *Config
	source source.Source
	router *router
	report *reporter

	ctx     context.Context // ends with the hub
	cancel  context.CancelFunc
	started chan struct{} // closed once the first session listens, or there is to be none
	done    chan struct{} // closed when run has returned
	err     error         // why there is none; may be read when started is closed

	attempts   atomic.Uint64 // to connect
	reconnects atomic.Uint64

	mu      sync.Mutex
	state   State // idle, connecting, listening or waiting
	since   time.Time
	session source.Session // while there is one
	lastErr error          // why the last session or attempt ended
}

func newSupervisor(cfg *Config, src source.Source, router *router, report *reporter) *supervisor {
	s := &supervisor{
		cfg: cfg, source: src, router: router, report: report,
		started: make(chan struct{}), done: make(chan struct{}), since: time.Now(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	router.listening = s.listening
	return s
}

// run connects, and reconnects, until the hub stops. Before a session has listened it gives up at the first error or, if
// patient, at the first one that waiting does not mend.
func (s *supervisor) run(patient bool) {
	defer close(s.done)
	for failures := 0; ; failures++ {
		lost, listened, err := s.live()
		stopped := s.ctx.Err() != nil
		if !s.hasStarted() && (stopped || !patient || hopeless(err)) {
			s.err = err
			close(s.started)
			stopped = true
		}
		s.enter(StateWaiting, err)
		if stopped {
			return
		}
		if listened >= s.cfg.ReconnectMax {
			failures = 0
		}
		delay := backoff(failures, s.cfg.ReconnectMin, s.cfg.ReconnectMax)
		cause, attrs := "connect", []any{"attempt", s.attempts.Load(), "next_attempt_in", delay}
		if lost != nil {
			cause, attrs = "lost", append(attrs, "server", lost.Server, "pid", lost.PID)
		}
		s.report.trouble(cause, err, attrs...)
		next := time.NewTimer(delay)
		select {
		case <-next.C:
		case <-s.ctx.Done():
			next.Stop()
		}
	}
}

func (s *supervisor) hasStarted() bool {
	select {
	case <-s.started:
		return true
	default:
		return false
	}
}

// live is one attempt to connect and, where that succeeds, the session that follows, to its end. lost is who it was with,
// if there was one, and listened how long everything subscribed to was in effect.
func (s *supervisor) live() (lost *source.Peer, listened time.Duration, err error) {
	s.enter(StateConnecting, nil)
	s.report.log(slog.LevelDebug, "connecting", "pghub: connecting", "attempt", s.attempts.Add(1))
	sess, err := s.source.Open(s.ctx)
	if err != nil {
		return nil, 0, err
	}
	s.hold(sess)
	err = s.runSession(sess)
	state, since := s.release()
	peer := sess.Peer()
	if err == ErrStopped {
		return &peer, 0, err
	}
	s.router.detach(sess.LastAlive(), err)
	if state == StateListening {
		listened = time.Since(since)
	}
	return &peer, listened, fmt.Errorf("pghub: listener connection to %s (process %d) ended: %w", peer.Server, peer.PID, err)
}

// runSession runs a session on a goroutine of its own: a codec that calls runtime.Goexit there ends the session, and not
// the supervisor.
func (s *supervisor) runSession(sess source.Session) error {
	ended := make(chan error, 1)
	go func() {
		err := thrown("codec", nil)
		defer func() { ended <- err }()
		err = sess.Run(s.ctx, s.router)
	}()
	return <-ended
}

// listening is called when a session has come to listen to everything, on the session's goroutine and before consumers are told.
func (s *supervisor) listening() {
	s.enter(StateListening, nil)
	peer := s.current().Peer()
	s.report.log(slog.LevelInfo, "listening", "pghub: listening", "server", peer.Server, "pid", peer.PID, "version", peer.Version, "attempt", s.attempts.Load())
	if s.hasStarted() {
		s.reconnects.Add(1)
		return
	}
	close(s.started)
}

func (s *supervisor) hold(sess source.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = sess
}

// release lets go of the session that has ended, and tells how far it had come.
func (s *supervisor) release() (state State, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = nil
	return s.state, s.since
}

func (s *supervisor) enter(state State, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != state {
		s.state, s.since = state, time.Now()
	}
	if err != nil {
		s.lastErr = err
	}
}

// current is the session, or nil.
func (s *supervisor) current() source.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// stop ends the session once it has routed all that was committed so far, or when ctx ends, and waits for run.
func (s *supervisor) stop(ctx context.Context) {
	if sess := s.current(); sess != nil && s.currentState() == StateListening {
		sess.Barrier(ctx)
	}
	s.cancel()
	<-s.done
}

func (s *supervisor) currentState() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == StateIdle {
		return StateConnecting // run is about to begin
	}
	return s.state
}
