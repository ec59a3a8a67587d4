package pghub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/internal/source"
)

// session is the life of one listener connection. The connection is full duplex: the goroutine that calls Run does nothing
// but read, and one other does nothing but write, so that neither a LISTEN nor a probe ever interrupts the reading. (A
// reader that also wrote could be waiting for the server to read while the server waits for it to.)
type session struct {
	link
	cfg    *Config
	report *reporter
	sink   source.Sink
	began  time.Time // times below are relative to it

	wake     chan struct{} // there may be something to write
	answered chan struct{} // the server has answered everything that was written
	closed   chan struct{}
	lastRead atomic.Int64

	mu       sync.Mutex
	sent     []*statement    // not answered yet
	barriers []chan struct{} // closed by the answer to the next probe
	cause    error           // why the session ended
}

var _ source.Session = (*session)(nil)

const burstSize = 256 // notifications that are routed together

func newSession(l *link, cfg *Config, report *reporter) *session {
	return &session{
		link:     *l,
		cfg:      cfg,
		report:   report,
		began:    time.Now(),
		wake:     make(chan struct{}, 1),
		answered: make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
}

var errGoexit = errors.New("the goroutine was ended by runtime.Goexit, in a codec")

// Run listens to what the sink wants and feeds it until the connection is lost, or ctx ends. The error says why.
func (s *session) Run(ctx context.Context, sink source.Sink) error {
	s.sink = sink
	stop := context.AfterFunc(ctx, s.terminate)
	defer stop()
	s.sink.Attach(s.wake)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.fail(s.write())
	}()
	defer func() {
		s.fail(errGoexit) // unless it has failed already
		<-written
	}()
	s.fail(s.read())
	<-written
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// fail ends the session. Only the first reason counts: what follows is its consequence.
func (s *session) fail(err error) {
	if s.end(err) {
		_ = s.conn.Close() // the reason is err
	}
}

// terminate takes leave of the server, so that it does not log a lost client. The server's end of the connection, which
// is its answer, is no loss.
func (s *session) terminate() {
	if !s.end(ErrStopped) {
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(terminateWriteTimeout))
	_, _ = s.conn.Write(pgwire.AppendTerminate(nil)) // the connection is closed in any case
	_ = s.conn.Close()
}

// end notes why the session ends. It reports whether this is the first reason; then the caller closes the connection.
func (s *session) end(err error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return false
	}
	s.cause = err
	close(s.closed)
	return true
}

// Barrier waits until everything has been routed that was committed before the call, or the session or ctx ends: a
// server process hears of a commit before the one who committed does, and sends what it heard before it answers.
func (s *session) Barrier(ctx context.Context) {
	reached := make(chan struct{})
	s.mu.Lock()
	s.barriers = append(s.barriers, reached)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-reached:
	case <-s.closed:
	case <-ctx.Done():
	}
}

func (s *session) now() time.Duration { return time.Since(s.began) }

// LastAlive is when the server was last heard of.
func (s *session) LastAlive() time.Time { return s.began.Add(time.Duration(s.lastRead.Load())) }

// read takes what the server sends until the connection ends.
func (s *session) read() error {
	frames := pgwire.NewReader(s.conn)
	var room [burstSize]source.Message // on the stack, where the garbage collector does not mind what is written
	for {
		if err := frames.Fill(); err != nil {
			return err
		}
		s.lastRead.Store(int64(s.now()))
		more := false // the buffer may hold more of a burst
		for {
			burst, err := frames.Notifications(room[:0])
			if len(burst) > 0 || more {
				more = len(burst) == burstSize && err == nil
				s.sink.Burst(burst, more) // also what came before the stream ceased to make sense
			}
			if err != nil {
				return err
			}
			if more {
				continue
			}
			// An answer may put subscriptions into effect, and so all that came before it is routed by now.
			f, ok, err := frames.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := s.handle(f); err != nil {
				return err
			}
		}
	}
}

// handle takes any message but a notification.
func (s *session) handle(f pgwire.Frame) error {
	switch f.Type {
	case pgwire.ReadyForQuery:
		return s.answer()
	case pgwire.ErrorResponse:
		var msg pgproto3.ErrorResponse
		if err := msg.Decode(f.Body); err != nil {
			return fmt.Errorf("%w: %w", pgwire.ErrProtocol, err)
		}
		err := pgconn.ErrorResponseToPgError(&msg)
		// Poolers do not send the one that is never translated.
		if severity := cmp.Or(msg.SeverityUnlocalized, msg.Severity); severity == "FATAL" || severity == "PANIC" {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.sent) == 0 {
			return err
		}
		s.sent[0].err = err
	case pgwire.NoticeResponse:
		var msg pgproto3.NoticeResponse
		if err := msg.Decode(f.Body); err != nil {
			return fmt.Errorf("%w: %w", pgwire.ErrProtocol, err)
		}
		s.report.log(slog.LevelInfo, "notice", "pghub: notice from the server", "notice", msg.Message, "code", msg.Code)
	case pgwire.ParameterStatus:
		return checkParameter(f.Body)
	case pgwire.RowDescription, pgwire.DataRow:
		return s.row(f)
	case pgwire.CommandComplete, pgwire.EmptyQueryResponse:
	default:
		return fmt.Errorf("%w: message %q", pgwire.ErrProtocol, f.Type)
	}
	return nil
}

// answer ends the statement that has waited longest.
func (s *session) answer() error {
	s.mu.Lock()
	if len(s.sent) == 0 {
		s.mu.Unlock()
		return fmt.Errorf("%w: an answer to nothing", pgwire.ErrProtocol)
	}
	st := s.sent[0]
	s.sent = s.sent[1:]
	last := len(s.sent) == 0
	s.mu.Unlock()

	for _, b := range st.barriers {
		close(b)
	}
	if err := s.sink.Acknowledge(st.changes, st.err); err != nil {
		return err
	}
	if last {
		s.answered <- struct{}{}
	}
	return nil
}

// write sends what the sink wants changed, one batch after another, and probes a silent server.
func (s *session) write() error {
	retry := time.NewTicker(s.cfg.ReconnectMax)
	defer retry.Stop()
	probing := s.cfg.ProbeInterval > 0
	probe := time.NewTimer(s.cfg.ProbeInterval)
	defer probe.Stop()
	if !probing {
		probe.Stop()
	}

	busy := false           // the server has not answered everything yet
	due := false            // a probe is
	var asked time.Duration // when
	for {
		if !busy {
			batch := s.batch(due)
			if busy = len(batch) > 0; busy {
				due = false
				asked = s.now()
				if err := s.send(batch); err != nil {
					return err
				}
				if probing {
					probe.Reset(s.cfg.ProbeTimeout)
				}
			}
		}
		select {
		case <-s.wake:
		case <-s.answered:
			busy = false
			if probing {
				probe.Reset(s.cfg.ProbeInterval)
			}
		case <-retry.C:
			s.sink.Retry()
		case <-probe.C:
			since := time.Duration(s.lastRead.Load())
			limit := s.cfg.ProbeInterval
			if busy {
				since, limit = max(since, asked), s.cfg.ProbeTimeout
			}
			silence := s.now() - since
			switch {
			case silence < limit:
				probe.Reset(limit - silence)
			case busy:
				return fmt.Errorf("%w within %v", ErrProbe, limit)
			default:
				due = true
			}
		case <-s.closed:
			return nil
		}
	}
}

// batch makes statements of all that is to be said now.
func (s *session) batch(probe bool) []*statement {
	var batch []*statement
	var together []source.Change
	changes, unannounced := s.sink.Changes()
	for _, c := range changes {
		if c.Alone {
			batch = append(batch, newStatement(c))
			continue
		}
		if together = append(together, c); len(together) == channelsPerStatement {
			batch = append(batch, newStatement(together...))
			together = nil
		}
	}
	if len(together) > 0 {
		batch = append(batch, newStatement(together...))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case probe:
		batch = append(batch, &statement{sql: probeSQL, barriers: s.barriers})
		s.barriers = nil
	case unannounced, len(s.barriers) > 0:
		batch = append(batch, &statement{sql: barrierSQL, barriers: s.barriers})
		s.barriers = nil
	}
	s.sent = append(s.sent, batch...)
	return batch
}

// send writes a batch. A server that takes nothing for ProbeTimeout is given up.
func (s *session) send(batch []*statement) error {
	var buf []byte
	for _, st := range batch {
		buf = pgwire.AppendQuery(buf[:0], st.sql)
		if s.cfg.ProbeInterval > 0 {
			if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.ProbeTimeout)); err != nil {
				return err
			}
		}
		if _, err := s.conn.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
