package pghub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// publishServer stands for pool and server: a test sees every statement and answers it.
type publishServer struct {
	t          *testing.T
	p          *publisher
	cut        context.CancelFunc
	statements chan *publishStatement
	errs       *errorLog
	away       error         // why there is no connection to be had
	hung       bool          // nor an answer to that
	idle       bool          // the pool has idle connections
	acquiring  func()        // a hook of the pool
	querying   func()        // a tracer
	releasing  func()        // a hook of the pool
	held       int           // connections
	resets     int           // of the pool
	limits     time.Duration // of the last Acquire
}

type publishStatement struct {
	ctx              context.Context
	topics, payloads []string
	answer           chan error
}

const publishTimeout = defaultPublishTimeout

func newPublishServer(t *testing.T) *publishServer {
	s := &publishServer{t: t, statements: make(chan *publishStatement), errs: newErrorLog()}
	cut, cancel := context.WithCancel(context.Background())
	s.cut = cancel
	t.Cleanup(cancel)
	s.p = newPublisher(cut, s, publishTimeout, newReporter(&Config{Logger: slog.New(slog.DiscardHandler), OnError: s.errs.onError}))
	return s
}

func (s *publishServer) acquire(ctx context.Context) (publishConn, error) {
	deadline, _ := ctx.Deadline()
	s.limits = time.Until(deadline)
	if s.acquiring != nil {
		s.acquiring()
	}
	switch {
	case s.hung:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.away != nil:
		return nil, s.away
	}
	s.held++
	return s, nil
}

func (s *publishServer) release() {
	s.held--
	if s.releasing != nil {
		s.releasing()
	}
}

func (s *publishServer) reset() { s.resets++ }

func (s *publishServer) resetIdle() {
	if s.idle {
		s.resets++
	}
}

func (s *publishServer) notify(ctx context.Context, calls []*call) error {
	if s.querying != nil {
		s.querying()
	}
	topics, payloads := textsOf(calls)
	st := &publishStatement{ctx, topics, payloads, make(chan error, 1)}
	select {
	case s.statements <- st:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-st.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publishFuncs is a pool in two functions.
type publishFuncs struct {
	mayAcquire func() error // nil: always
	send       func(ctx context.Context, topics, payloads []string) error
}

func publisherOf(cut context.Context, pool *publishFuncs) *publisher {
	return newPublisher(cut, pool, publishTimeout, newReporter(&Config{Logger: slog.New(slog.DiscardHandler)}))
}

func (f *publishFuncs) acquire(context.Context) (publishConn, error) {
	if f.mayAcquire != nil {
		return f, f.mayAcquire()
	}
	return f, nil
}

func (f *publishFuncs) notify(ctx context.Context, calls []*call) error {
	topics, payloads := textsOf(calls)
	return f.send(ctx, topics, payloads)
}

func (f *publishFuncs) release()   {}
func (f *publishFuncs) resetIdle() {}
func (f *publishFuncs) reset()     {}

// call begins a call and returns when it waits for something.
func (s *publishServer) call(ctx context.Context, topic, payload string) <-chan error {
	return s.callPadded(ctx, topic, payload, padKeyValue)
}

func (s *publishServer) callPadded(ctx context.Context, topic, payload string, pad func(string, int) string) <-chan error {
	outcome := make(chan error, 1)
	go func() { outcome <- s.p.publish(ctx, notification{topic, payload}, pad) }()
	synctest.Wait()
	return outcome
}

// batchOf begins n calls that will share the next statement.
func (s *publishServer) batchOf(t *testing.T, n int) (outcomes []<-chan error) {
	t.Helper()
	first := s.call(t.Context(), "a", "e0")
	st := s.next("e0")
	for i := range n {
		outcomes = append(outcomes, s.call(t.Context(), "a", fmt.Sprint("e", i+1)))
	}
	st.end(nil)
	require.NoError(t, <-first)
	s.p.events.Store(0)
	return outcomes
}

// next is the statement that has been sent.
func (s *publishServer) next(payloads ...string) *publishStatement {
	s.t.Helper()
	select {
	case st := <-s.statements:
		require.Equal(s.t, payloads, st.payloads)
		return st
	case <-time.After(time.Nanosecond): // when everybody waits
		require.FailNow(s.t, "nothing was sent")
		return nil
	}
}

// end answers a statement and waits until everybody has heard of it.
func (st *publishStatement) end(err error) {
	st.answer <- err
	synctest.Wait()
}

func publishRefusal(code string) error {
	return &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: code}
}

// What arrives while a statement is under way goes together in the next one, in the order of arrival. Nobody lingers.
func TestPublisherGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e1")
		st := s.next("e1")
		var others []<-chan error
		for i := 2; i <= 6; i++ {
			others = append(others, s.call(t.Context(), "a", fmt.Sprint("e", i)))
		}
		st.end(nil)
		require.NoError(t, <-first)
		st = s.next("e2", "e3", "e4", "e5", "e6")
		late := s.call(context.Background(), "b", "e7")
		for _, other := range others {
			require.Empty(t, other, "an answer before the commit")
		}
		st.end(nil)
		for _, other := range others {
			require.NoError(t, <-other)
		}
		s.next("e7").end(nil)
		require.NoError(t, <-late)
		require.False(t, s.p.busy)
		require.Equal(t, uint64(7), s.p.events.Load())
		require.Equal(t, uint64(3), s.p.batches.Load())
		require.Zero(t, s.p.failures.Load())
	})
}

// PostgreSQL folds equal notifications of a transaction: in a batch there are none.
func TestPublisherTellsEqualEventsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		var outcomes []<-chan error
		call := func(topic, payload string, pad func(string, int) string) {
			outcomes = append(outcomes, s.callPadded(t.Context(), topic, payload, pad))
		}
		call("a", "e0", padKeyValue)
		st := s.next("e0")
		call("a", "e1", padKeyValue)
		call("a", "e1", padKeyValue)
		call("b", "e1", padKeyValue) // another topic
		call("a", "e2:{}", padKeyValue)
		call("a", "e2:{}", padKeyValue)
		call("a", "e1:null ", nil)       // in the way of the next one
		call("a", "e1", padKeyValue)     // so that this takes the one behind it
		call("a", "e1:null\n", nil)      // text that nobody has in this batch
		call("a", "e2:{} ", padKeyValue) // another codec would not, but it could
		call("a", "e1", nil)             // text as it is: next batch
		call("a", "e3", nil)             // in the order of arrival
		call("a", "e1", nil)             // and once more
		st.end(nil)
		st = s.next("e1", "e1:null", "e1", "e2:{}", "e2:{} ", "e1:null ", "e1:null\t", "e1:null\n", "e2:{}  ")
		require.Equal(t, []string{"a", "a", "b", "a", "a", "a", "a", "a", "a"}, st.topics)
		st.end(nil)
		s.next("e1", "e3").end(nil)
		st = s.next("e1")
		call("a", "e2:{}", padKeyValue)
		call("a", "e1:null", nil)
		st.end(nil)
		s.next("e2:{}", "e1:null").end(nil) // what earlier batches held is of no concern
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

// What would not fit with padding is sent by itself.
func TestPublisherPadsWithinTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		full := "e:" + strings.Repeat("7", maxPayload-2)
		almost := full[:maxPayload-1]
		outcomes := []<-chan error{s.call(t.Context(), "a", "e0")}
		st := s.next("e0")
		for range 2 {
			outcomes = append(outcomes, s.call(t.Context(), "a", full), s.call(t.Context(), "a", almost))
		}
		st.end(nil)
		s.next(full, almost).end(nil)
		s.next(full, almost).end(nil)
		outcomes = append(outcomes, s.call(t.Context(), "a", "e0"))
		st = s.next("e0")
		for range 2 {
			outcomes = append(outcomes, s.call(t.Context(), "a", almost))
		}
		st.end(nil)
		s.next(almost, almost+" ").end(nil)
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

func TestPublisherBatchLimits(t *testing.T) {
	for name, c := range map[string]struct {
		payload func(i int) string
		calls   int
		batch   int
	}{
		"events": {func(i int) string { return fmt.Sprint("e", i) }, maxBatchEvents + 100, maxBatchEvents},
		"bytes":  {func(i int) string { return fmt.Sprintf("e%d:%7000d", i, 1)[:7000] }, 160, maxBatchBytes / 7000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				first := s.call(t.Context(), "a", "e0")
				st := <-s.statements
				var outcomes []<-chan error
				for i := range c.calls {
					outcomes = append(outcomes, s.call(t.Context(), "a", c.payload(i+1)))
				}
				st.end(nil)
				st = <-s.statements
				require.Len(t, st.payloads, c.batch)
				require.Equal(t, c.payload(1), st.payloads[0])
				st.end(nil)
				st = <-s.statements
				require.Len(t, st.payloads, c.calls-c.batch)
				require.Equal(t, c.payload(c.batch+1), st.payloads[0])
				st.end(nil)
				require.NoError(t, <-first)
				for _, outcome := range outcomes {
					require.NoError(t, <-outcome)
				}
			})
		})
	}
}

// An event that the server refuses harms nobody whom it happens to ride with.
func TestPublisherIsolatesTheGuilty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		good, bad, lost := s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2"), s.call(t.Context(), "a", "e3")
		st.end(nil)
		require.NoError(t, <-first)
		s.next("e1", "e2", "e3").end(publishRefusal("22023"))
		s.next("e1").end(nil)
		s.next("e2", "e3").end(publishRefusal("22023"))
		s.next("e2").end(publishRefusal("22023"))
		s.next("e3").end(io.ErrUnexpectedEOF)
		require.NoError(t, <-good)
		var refusal *pgconn.PgError
		require.ErrorAs(t, <-bad, &refusal)
		require.ErrorIs(t, <-lost, ErrUnknownOutcome)
		require.Equal(t, uint64(2), s.p.events.Load())
		require.Equal(t, uint64(2), s.p.failures.Load())
	})
}

// The error says what became of the event: refused, not sent, or unknown. It is the same for all of a batch.
func TestPublisherNamesOutcomes(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		err  error
		want error
		not  []error
	}{
		"refused":                 {publishRefusal("42501"), refused, []error{ErrUnknownOutcome, ErrNotConnected}},
		"queue full":              {publishRefusal("54000"), refused, []error{ErrUnknownOutcome, ErrNotConnected}},
		"cancelled at the server": {fmt.Errorf("%w: %w", context.Canceled, publishRefusal("57014")), refused, []error{ErrUnknownOutcome}},
		"server went down":        {&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "57P01"}, ErrUnknownOutcome, []error{ErrNotConnected}},
		"server crashed":          {&pgconn.PgError{SeverityUnlocalized: "PANIC", Code: "58030"}, ErrUnknownOutcome, nil},
		"old server's error":      {&pgconn.PgError{Severity: "FEHLER", Code: "42501"}, ErrUnknownOutcome, nil},
		"connection lost":         {io.ErrUnexpectedEOF, ErrUnknownOutcome, []error{ErrNotConnected}},
		"nothing written":         {publishSafe{}, ErrNotConnected, []error{ErrUnknownOutcome}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				outcomes := []<-chan error{s.call(t.Context(), "a", "e0")}
				st := s.next("e0")
				outcomes = append(outcomes, s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2"))
				st.end(c.err)
				s.next("e1", "e2").end(c.err)
				for _, outcome := range outcomes {
					err := <-outcome
					require.ErrorIs(t, err, c.err, "the cause is told")
					if c.want != refused {
						require.ErrorIs(t, err, c.want)
					}
					for _, not := range c.not {
						require.NotErrorIs(t, err, not)
					}
				}
				require.Equal(t, uint64(3), s.p.failures.Load())
			})
		})
	}
}

// Where there is no connection nothing is sent; what the server says to that is told.
func TestPublisherNamesWhyNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		for _, cause := range []error{
			io.ErrUnexpectedEOF,
			&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "28P01"},
			publishRefusal("22023"), // to a statement of a hook
		} {
			s.away = nil
			first := s.call(t.Context(), "a", "e0")
			st := s.next("e0")
			outcomes := []<-chan error{s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2")}
			s.away = cause
			st.end(nil)
			require.NoError(t, <-first)
			for _, outcome := range outcomes {
				err := <-outcome
				require.ErrorIs(t, err, ErrNotConnected)
				require.ErrorIs(t, err, cause)
				require.NotErrorIs(t, err, ErrUnknownOutcome)
			}
		}
		require.Equal(t, uint64(6), s.p.failures.Load())
	})
}

type publishSafe struct{}

func (publishSafe) Error() string     { return "busy" }
func (publishSafe) SafeToRetry() bool { return true }

// One whose context ends while it waits for the statement before is not sent.
func TestPublisherLeavesBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		stays, leaves := s.call(t.Context(), "a", "e1"), s.call(ctx, "a", "e2")
		cancel()
		err := <-leaves
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
		st.end(nil)
		st = s.next("e1")
		ctx, cancel = context.WithCancel(t.Context())
		leaves = s.call(ctx, "a", "e3") // behind a batch
		cancel()
		err = <-leaves
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrNotConnected, "nobody has tried")
		st.end(nil)
		require.NoError(t, <-first)
		require.NoError(t, <-stays)
	})
}

// One whose context ends while its statement is under way does not wait for that, nor do others suffer.
func TestPublisherLeavesDuring(t *testing.T) {
	for name, who := range map[string]int{"leader": 0, "rider": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				first := s.call(t.Context(), "a", "e0")
				st := s.next("e0")
				var outcomes []<-chan error
				var cancels []context.CancelFunc
				for i := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					outcomes, cancels = append(outcomes, s.call(ctx, "a", fmt.Sprint("e", i+1))), append(cancels, cancel)
				}
				st.end(nil)
				require.NoError(t, <-first)
				st = s.next("e1", "e2", "e3")
				cancels[who]()
				err := <-outcomes[who]
				require.ErrorIs(t, err, ErrUnknownOutcome)
				require.ErrorIs(t, err, context.Canceled)
				require.NoError(t, st.ctx.Err(), "the statement goes on")
				later := s.call(t.Context(), "a", "e4")
				st.end(nil)
				for i, outcome := range outcomes {
					if i != who {
						require.NoError(t, <-outcome)
					}
				}
				s.next("e4").end(nil)
				require.NoError(t, <-later)
				for _, cancel := range cancels {
					cancel()
				}
			})
		})
	}
}

// A statement for one caller ends with the caller's context.
func TestPublisherLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		alone := s.call(ctx, "a", "e0")
		st := s.next("e0")
		next := s.call(t.Context(), "a", "e1")
		err := <-alone
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Error(t, st.ctx.Err())
		s.next("e1").end(nil)
		require.NoError(t, <-next)
		require.False(t, s.p.busy)

		s.hung = true
		ctx, cancel = context.WithCancel(t.Context())
		alone = s.call(ctx, "a", "e2")
		cancel()
		err = <-alone
		require.ErrorIs(t, err, ErrNotConnected)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
		require.False(t, s.p.busy)
	})
}

// Callers who wait less than PublishTimeout add up.
func TestPublisherResetsForImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		s.idle = true
		impatient := func(wait time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			outcome := s.call(ctx, "a", "e0")
			if !s.hung {
				s.next("e0")
			}
			require.ErrorIs(t, <-outcome, context.DeadlineExceeded)
		}
		impatient(publishTimeout/2 - 1)
		answered := s.call(t.Context(), "a", "e0")
		s.next("e0").end(publishRefusal("42501"))
		require.Error(t, <-answered)
		impatient(publishTimeout/2 - 1)
		require.Zero(t, s.resets, "there was an answer in between")
		impatient(1)
		require.Equal(t, 1, s.resets)
		s.hung = true
		impatient(publishTimeout / 4)
		require.Equal(t, 1, s.resets)
		impatient(publishTimeout / 4)
		require.Equal(t, 2, s.resets)
	})
}

// A batch that everybody has left is not sent, and neither are its events in the way of others.
func TestPublisherForgetsThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		ctx, cancel := context.WithCancel(t.Context())
		var leave []<-chan error
		for i := range 3*maxBatchEvents + 10 {
			leave = append(leave, s.call(ctx, "a", fmt.Sprint("e", i)))
		}
		stays := s.call(t.Context(), "a", "e1:1")
		require.Len(t, s.p.waiting, 4)
		cancel()
		for _, outcome := range leave {
			err := <-outcome
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrUnknownOutcome)
		}
		require.Len(t, s.p.waiting, 1, "with the one who stays")
		st.end(nil)
		require.NoError(t, <-first)
		s.next("e1:1").end(nil)
		require.NoError(t, <-stays)
		require.False(t, s.p.busy)
	})
}

// A server that does not answer is not waited for without end: others wait behind it. Its pool is emptied, so that other
// dead connections do not answer in its place.
func TestPublisherTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		for i := range 3 { // each statement has its own time
			start := time.Now()
			first := s.call(context.Background(), "a", "e0")
			st := s.next("e0")
			second := s.call(context.Background(), "a", "e1")
			err := <-first
			require.Equal(t, publishTimeout, time.Since(start))
			require.ErrorIs(t, err, ErrUnknownOutcome)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no answer within 5s")
			require.Error(t, st.ctx.Err())
			require.Equal(t, i+1, s.resets)
			st = s.next("e1")
			time.Sleep(publishTimeout - time.Nanosecond)
			synctest.Wait()
			require.NoError(t, st.ctx.Err())
			st.end(nil)
			require.NoError(t, <-second)
			require.Error(t, st.ctx.Err(), "the context of a statement ends with it")
			require.Equal(t, i+1, s.resets)
		}
	})
}

// A wait for a connection is the shorter one: it ends in time though the timer was set for a statement before it.
func TestPublisherTimesOutAfterALongStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		send := func(takes time.Duration) {
			outcome := s.call(t.Context(), "a", "e0")
			st := s.next("e0")
			time.Sleep(takes)
			st.end(nil)
			require.NoError(t, <-outcome)
		}
		send(0)
		time.Sleep(publishTimeout/2 - 2) // the timer, set for the first, goes off in the second
		send(4)
		s.hung = true
		start := time.Now()
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e1"), ErrNotConnected)
		require.Equal(t, publishTimeout/2, time.Since(start))
		s.hung = false
		send(0)
		require.NotZero(t, s.p.limit.at)
		s.p.close(t.Context())
		require.Zero(t, s.p.limit.at, "the timer is let go of")
	})
}

// Nor is a pool that comes up with no connection. Only idle connections can be what kept it.
func TestPublisherTimesOutWithoutConnection(t *testing.T) {
	for _, idle := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newPublishServer(t)
			s.hung, s.idle = true, idle
			start := time.Now()
			err := <-s.call(context.Background(), "a", "e0")
			require.Equal(t, publishTimeout/2, time.Since(start))
			require.Equal(t, publishTimeout/2, s.limits, "the pool is told: it destroys what it then still waits for")
			require.ErrorIs(t, err, ErrNotConnected)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no connection of the pool within 2.5s")
			require.Equal(t, map[bool]int{true: 1, false: 0}[idle], s.resets)
			s.hung = false
			next := s.call(t.Context(), "a", "e1")
			s.next("e1").end(nil)
			require.NoError(t, <-next)
		})
	}
}

// A time-out resets the pool, and nothing else does.
func TestPublisherResetsForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		s.idle = true
		for _, err := range []error{nil, io.ErrUnexpectedEOF, publishRefusal("42501"), context.DeadlineExceeded} {
			outcome := s.call(t.Context(), "a", "e0")
			s.next("e0").end(err)
			require.ErrorIs(t, <-outcome, err)
		}
		s.away = io.ErrUnexpectedEOF
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e0"), ErrNotConnected)
		s.away = nil
		outcome := s.call(t.Context(), "a", "e0")
		s.next("e0")
		time.Sleep(publishTimeout - 1)
		s.cut()
		err := <-outcome
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorIs(t, err, errCutOff)
		s.hung = true
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e0"), ErrNotConnected)
		require.Zero(t, s.resets)
	})
}

// A time-out in the middle of what is sent apart ends all of it: none of the rest is tried, nor sent.
func TestPublisherGivesUpTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		outcomes := s.batchOf(t, 8)
		s.next("e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8").end(publishRefusal("22P05"))
		s.next("e1", "e2", "e3", "e4").end(publishRefusal("22P05"))
		s.next("e1", "e2").end(nil)
		time.Sleep(publishTimeout - time.Nanosecond) // the time of a statement begins with it
		s.next("e3", "e4").end(publishRefusal("22P05"))
		st := s.next("e3")
		time.Sleep(publishTimeout - time.Nanosecond)
		synctest.Wait()
		require.NoError(t, st.ctx.Err())
		time.Sleep(time.Nanosecond)
		require.NoError(t, <-outcomes[0])
		require.NoError(t, <-outcomes[1])
		require.ErrorIs(t, <-outcomes[2], ErrUnknownOutcome)
		for _, outcome := range outcomes[3:] {
			err := <-outcome
			require.ErrorIs(t, err, ErrNotConnected)
			require.ErrorContains(t, err, "no answer within 5s")
			require.NotErrorIs(t, err, ErrUnknownOutcome)
		}
		require.Equal(t, 1, s.resets)
		require.Equal(t, uint64(2), s.p.events.Load())
		require.Equal(t, uint64(6), s.p.failures.Load())
	})
}

// What a hook of the pool or a tracer throws is the outcome of the statement, and no more.
func TestPublisherSurvivesHooks(t *testing.T) {
	for place, want := range map[string]error{"acquiring": ErrNotConnected, "querying": ErrUnknownOutcome, "releasing": nil} {
		for way, throw := range throws {
			t.Run(place+", "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newPublishServer(t)
					hook := map[string]*func(){"acquiring": &s.acquiring, "querying": &s.querying, "releasing": &s.releasing}[place]
					first := s.call(t.Context(), "a", "e1")
					st := s.next("e1")
					outcomes := []<-chan error{s.call(t.Context(), "a", "e2"), s.call(context.Background(), "a", "e3")}
					before := map[string]int{"releasing": 1}[place] // calls of the hook before that for the batch
					*hook = func() {
						if before--; before == -1 {
							throw()
						}
					}
					st.end(nil)
					require.NoError(t, <-first)
					if place == "releasing" {
						s.next("e2", "e3").end(nil)
					}
					for _, outcome := range outcomes {
						err := <-outcome
						if want == nil {
							require.NoError(t, err, "it was sent before")
							continue
						}
						require.ErrorIs(t, err, want)
						require.ErrorIs(t, err, ErrPanic)
						if way == "panic" {
							require.ErrorIs(t, err, errThrown)
						}
					}
					reported := s.errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
					require.ErrorContains(t, reported, "publisher_test.go", "the stack says where")
					require.Zero(t, s.held)
					next := s.call(t.Context(), "a", "e4")
					s.next("e4").end(nil)
					require.NoError(t, <-next)
					s.p.close(t.Context())
					require.Equal(t, uint64(4), s.p.events.Load()+s.p.failures.Load())
				})
			})
		}
	}
}

// Whoever leaves while there is no connection yet knows that nothing is sent. If all do, the connection goes back unused.
func TestPublisherLeavesBeforeThereIsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		connected := make(chan struct{})
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		s.acquiring = func() { <-connected }
		ctx, cancel := context.WithCancel(t.Context())
		leaves, stays := s.call(ctx, "a", "e1"), s.call(t.Context(), "a", "e2")
		st.end(nil)
		require.NoError(t, <-first)
		cancel()
		err := <-leaves
		require.ErrorIs(t, err, ErrNotConnected)
		require.ErrorIs(t, err, context.Canceled)
		connected <- struct{}{}
		s.next("e2").end(nil)
		require.NoError(t, <-stays)

		ctx, cancel = context.WithCancel(t.Context())
		first = s.call(t.Context(), "a", "e3")
		connected <- struct{}{}
		st = s.next("e3")
		leaves = s.call(ctx, "a", "e4")
		st.end(nil)
		require.NoError(t, <-first)
		cancel()
		require.ErrorIs(t, <-leaves, ErrNotConnected)
		connected <- struct{}{}
		synctest.Wait()
		require.Zero(t, s.held)
		require.False(t, s.p.busy)
		require.Equal(t, uint64(3), s.p.events.Load())
		require.Zero(t, s.p.failures.Load(), "nothing was tried")
	})
}

// A tracer is told the values of the caller's context, if the caller is alone.
func TestPublisherPassesValuesOn(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx := context.WithValue(t.Context(), key{}, "mine")
		outcomes := []<-chan error{s.call(ctx, "a", "e1")}
		st := s.next("e1")
		require.Equal(t, "mine", st.ctx.Value(key{}))
		for range 2 {
			outcomes = append(outcomes, s.call(ctx, "a", "e2"))
		}
		st.end(nil)
		st = s.next("e2", "e2:null")
		require.Nil(t, st.ctx.Value(key{}))
		st.end(nil)
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

// Cut off with the hub, everybody gets an answer at once.
func TestPublisherCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		start := time.Now()
		first := s.call(context.Background(), "a", "e0")
		s.next("e0")
		second, third := s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2")
		s.cut()
		err := <-first
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.NotErrorIs(t, err, ErrStopped, "which says that nothing was sent")
		require.Error(t, <-second)
		require.Error(t, <-third)
		require.Less(t, time.Since(start), time.Second)
	})
}

// Closing lets nobody in, and waits for those who are.
func TestPublisherCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		second := s.call(t.Context(), "a", "e1")
		closed := make(chan struct{})
		go func() {
			s.p.close(context.Background())
			close(closed)
		}()
		synctest.Wait()
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e2"), ErrStopped)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.p.close(short) // waits no longer
		require.Error(t, short.Err())

		st.end(nil)
		require.NoError(t, <-first)
		select {
		case <-closed:
			require.Fail(t, "somebody still waits for an answer")
		default:
		}
		s.next("e1").end(nil)
		require.NoError(t, <-second)
		<-closed
		s.p.close(context.Background())
	})
	synctest.Test(t, func(t *testing.T) {
		newPublishServer(t).p.close(context.Background()) // with nobody there
	})
}

// Many callers, contexts that end at any moment, statements that fail: everybody gets an answer in time, and it is true.
func TestPublisherModel(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) { runPublisherModel(t, seed) })
	}
}

func runPublisherModel(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	const callers, calls = 12, 12
	var mu sync.Mutex // of all that follows
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rnd.IntN(n)) * time.Millisecond
	}
	committed := make(map[string]int)
	underWay := 0
	cut, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := publisherOf(cut, &publishFuncs{mayAcquire: func() error {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(12) == 0 {
			return io.EOF
		}
		return nil
	}, send: func(ctx context.Context, topics, payloads []string) error {
		mu.Lock()
		underWay++
		if underWay > 1 {
			t.Error("two statements at a time")
		}
		distinct := make(map[notification]bool)
		for i, payload := range payloads {
			distinct[notification{topics[i], payload}] = true
		}
		if len(distinct) != len(payloads) {
			t.Errorf("the server would fold %q", payloads)
		}
		fate := 1 + rnd.IntN(11)
		mu.Unlock()
		if fate > 3 { // takes its time
			select {
			case <-time.After(random(20)):
			case <-ctx.Done():
			}
		}
		mu.Lock()
		defer mu.Unlock()
		underWay--
		switch fate {
		case 1:
			return publishRefusal("42501")
		case 2:
			for _, payload := range payloads {
				if len(payloads) > 1 || strings.Contains(payload, `"3`) {
					return publishRefusal("22023")
				}
			}
		case 3:
			return io.ErrUnexpectedEOF
		}
		if err := ctx.Err(); err != nil && fate%2 == 0 {
			return err
		}
		for _, payload := range payloads {
			committed[strings.TrimSpace(payload)]++
		}
		return nil
	}})

	var waits sync.WaitGroup
	yes, no := make(map[string]int), make(map[string]int) // answers; the rest is unknown
	asked := make(map[string]int)
	for caller := range callers {
		waits.Go(func() {
			for i := range calls {
				ctx, stop := context.WithTimeout(context.Background(), random(40))
				if caller%4 == 0 {
					stop()
					ctx, stop = context.Background(), func() {}
				}
				payload := fmt.Sprintf(`e:"%d %d"`, caller, i)
				pad := padKeyValue
				if caller%3 == 0 {
					payload = fmt.Sprintf(`e:"same %d"`, i%2)
				}
				if caller%6 == 0 {
					pad = nil
				}
				err := p.publish(ctx, notification{"a", payload}, pad)
				mu.Lock()
				asked[payload]++
				switch {
				case err == nil:
					yes[payload]++
				case !errors.Is(err, ErrUnknownOutcome):
					no[payload]++
				}
				mu.Unlock()
				if deadline, limited := ctx.Deadline(); limited && time.Now().After(deadline) {
					t.Errorf("the answer came %v after the context had ended", time.Since(deadline))
				}
				stop()
			}
		})
	}
	waits.Wait()
	p.close(context.Background()) // waits for batches whose leader has left
	require.Empty(t, p.waiting)
	require.False(t, p.busy)
	mu.Lock()
	defer mu.Unlock()
	for payload, n := range asked {
		require.GreaterOrEqual(t, committed[payload], yes[payload], "%s was said to be committed", payload)
		require.LessOrEqual(t, committed[payload], n-no[payload], "%s was said not to be sent", payload)
	}
}

// All events of many callers arrive, equal ones too, and those of a caller in its order.
func TestPublishConcurrently(t *testing.T) {
	const callers, calls = 64, 100
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"unique", "equal"}, QueueSize: -1})
	require.NoError(t, err)
	var waits sync.WaitGroup
	for caller := range callers {
		waits.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range calls {
				if err := hub.Notify(ctx, "unique", []int64{int64(caller), int64(i)}, nil); err != nil {
					t.Error(err)
				}
				if err := hub.Notify(ctx, "equal", []int64{int64(i % 3)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	waits.Wait()
	next, equal := make(map[int64]int64), 0
	for range 2 * callers * calls {
		ev := stream.await(t, func(ev *Event) bool { return ev.Advisory == nil })
		if ev.Topic == "equal" {
			require.Len(t, ev.Key, 1)
			require.Nil(t, ev.Value)
			equal++
			continue
		}
		require.Equal(t, next[ev.Key[0]], ev.Key[1], "of caller %d", ev.Key[0])
		next[ev.Key[0]]++
	}
	require.Equal(t, callers*calls, equal)
	require.Len(t, next, callers)
	stats := hub.Stats()
	require.Equal(t, uint64(2*callers*calls), stats.Published)
	require.Less(t, stats.PublishBatches, stats.Published/4, "they share statements")
	require.Zero(t, stats.PublishErrors)
}

// Equal texts cannot be told apart: they go one a statement, and all arrive.
func TestPublishEqualTexts(t *testing.T) {
	const callers, calls = 16, 10
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{Codec: RawCodec{}})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	var waits sync.WaitGroup
	for caller := range callers {
		waits.Go(func() {
			for range calls {
				if err := hub.NotifyPayload(t.Context(), "a", fmt.Sprint("text ", caller%2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	waits.Wait()
	count := make(map[string]int)
	for range callers * calls {
		count[string(stream.await(t, func(ev *Event) bool { return ev.Advisory == nil }).Payload)]++
	}
	require.Equal(t, map[string]int{"text 0": callers * calls / 2, "text 1": callers * calls / 2}, count)
}

// Whatever a context does to a call, what is said of the event is true: nil means delivered, and an error other than
// ErrUnknownOutcome means not sent.
func TestPublishCancelled(t *testing.T) {
	const callers, calls = 16, 100
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"a"}, QueueSize: -1})
	require.NoError(t, err)
	var mu sync.Mutex
	outcomes := make(map[[2]int64]error)
	var waits sync.WaitGroup
	for caller := range int64(callers) {
		rnd := rand.New(rand.NewPCG(uint64(caller), 0))
		waits.Go(func() {
			for i := range int64(calls) {
				limit := time.Hour
				if i%4 > 0 {
					limit = time.Duration(rnd.IntN(3000)) * time.Microsecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				err := hub.Notify(ctx, "a", []int64{caller, i}, nil)
				cancel()
				mu.Lock()
				outcomes[[2]int64{caller, i}] = err
				mu.Unlock()
			}
		})
	}
	waits.Wait()
	require.NoError(t, hub.Notify(t.Context(), "a", nil, "last"))

	arrived := make(map[[2]int64]int)
	last := stream.await(t, func(ev *Event) bool {
		if len(ev.Key) == 2 {
			arrived[[2]int64(ev.Key)]++
		}
		return ev.Value != nil && ev.Advisory == nil
	})
	require.Equal(t, `"last"`, string(last.Value))
	kinds := make(map[string]int)
	for key, err := range outcomes {
		switch {
		case err == nil:
			kinds["delivered"]++
			require.Equal(t, 1, arrived[key], "%v", key)
		case errors.Is(err, ErrUnknownOutcome):
			kinds["unknown"]++
			require.LessOrEqual(t, arrived[key], 1, "%v", key)
		default:
			kinds["not sent"]++
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Zero(t, arrived[key], "%v: %v", key, err)
		}
	}
	t.Log(kinds)
	require.GreaterOrEqual(t, kinds["delivered"], callers*calls/4, "those without a limit are")
}
