package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// State of a [Hub].
type State int

// The states of a hub's life. While it is neither idle nor stopped it goes back and forth between connecting, listening
// and waiting.
const (
	StateIdle       State = iota // before Start
	StateConnecting              // opening a connection, or listening to not all of the topics yet
	StateListening               // everything subscribed to is in effect
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

// supervisor owns the sessions of a hub, one after another, on a goroutine that is also their reader.
type supervisor struct {
	cfg    *Config
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
	session *session // while listening
	lastErr error    // why the last session or attempt ended
}

func newSupervisor(cfg *Config, router *router, report *reporter) *supervisor {
	s := &supervisor{
		cfg: cfg, router: router, report: report,
		started: make(chan struct{}), done: make(chan struct{}), since: time.Now(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
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
		s.enter(StateWaiting, nil, err)
		if stopped {
			return
		}
		if listened >= s.cfg.ReconnectMax {
			failures = 0
		}
		delay := backoff(failures, s.cfg.ReconnectMin, s.cfg.ReconnectMax)
		cause, attrs := "connect", []any{"attempt", s.attempts.Load(), "next_attempt_in", delay}
		if lost != nil {
			cause, attrs = "lost", append(attrs, "server", lost.server, "pid", lost.pid)
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

// live is one attempt to connect and, where that succeeds, the session that follows, to its end. lost is the connection,
// if there was one, and listened how long everything subscribed to was in effect.
func (s *supervisor) live() (lost *link, listened time.Duration, err error) {
	s.enter(StateConnecting, nil, nil)
	s.report.log(slog.LevelDebug, "connecting", "pghub: connecting", "attempt", s.attempts.Add(1))
	l, err := connect(s.ctx, s.cfg)
	if err != nil {
		return nil, 0, err
	}
	var began time.Time
	var sess *session
	sess = newSession(l, s.cfg, s.router, s.report, func() { // called by run, on this goroutine
		began = time.Now()
		s.listening(sess)
	})
	err = sess.run(s.ctx)
	if err == ErrStopped {
		return l, 0, err
	}
	s.router.detach(sess.lastAlive(), err)
	if !began.IsZero() {
		listened = time.Since(began)
	}
	return l, listened, fmt.Errorf("pghub: listener connection to %s (process %d) ended: %w", l.server, l.pid, err)
}

func (s *supervisor) listening(sess *session) {
	s.enter(StateListening, sess, nil)
	s.report.log(slog.LevelInfo, "listening", "pghub: listening", "server", sess.server, "pid", sess.pid, "version", sess.version, "attempt", s.attempts.Load())
	if s.hasStarted() {
		s.reconnects.Add(1)
		return
	}
	close(s.started)
}

func (s *supervisor) enter(state State, sess *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != state {
		s.state, s.since = state, time.Now()
	}
	s.session = sess
	if err != nil {
		s.lastErr = err
	}
}

// current is the session that listens, or nil.
func (s *supervisor) current() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// stop ends the session once it has routed all that was committed so far, or when ctx ends, and waits for run.
func (s *supervisor) stop(ctx context.Context) {
	if sess := s.current(); sess != nil {
		sess.barrier(ctx)
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
