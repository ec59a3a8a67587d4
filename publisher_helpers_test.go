package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
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

func (f *publishFuncs) release() {}

func (f *publishFuncs) resetIdle() {}

func (f *publishFuncs) reset() {}

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
