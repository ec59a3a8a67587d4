package pghub

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// This file is what the publisher does with a batch: a connection, statements, time limits, and what came of it.

// acquire gets a connection of the pool.
func (p *publisher) acquire(ctx context.Context) (conn publishConn, err error) {
	err = errEnded // unless it returns
	defer p.catch(&err, "a hook of the pool")
	deadline := p.limit.allow(p.timeout/2, p.noConnection)
	p.misses++
	conn, err = p.pool.acquire(withDeadline{ctx, deadline})
	if err == nil {
		p.misses = 0
	}
	if err != nil && ctx.Err() != nil {
		if p.isSilent(ctx, p.timeout/2-time.Until(deadline)) {
			p.pool.resetIdle() // it was looking at a dead one
		}
		err = because(ctx, err)
	}
	return conn, err
}

// sendAll sends calls in one statement, or in several if the server refuses one of them: it does not say which. Each gets its
// outcome. An error means that the server no longer answers.
func (p *publisher) sendAll(ctx context.Context, conn publishConn, calls []*call) error {
	err := p.send(ctx, conn, calls)
	if len(calls) == 1 || !refusesOne(err) {
		return p.settle(calls, true, err)
	}
	half := len(calls) / 2 // nothing was committed
	if err := p.sendAll(ctx, conn, calls[:half]); err != nil {
		return p.settle(calls[half:], false, err)
	}
	return p.sendAll(ctx, conn, calls[half:])
}

// send sends calls in one statement.
func (p *publisher) send(ctx context.Context, conn publishConn, calls []*call) (err error) {
	err = errEnded // unless it returns
	defer p.catch(&err, "a tracer")
	deadline := p.limit.allow(p.timeout, p.noAnswer)
	if err = conn.notify(ctx, calls); err == nil || ctx.Err() == nil {
		p.silent = 0
		return err
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) { // the server lives, and has cancelled the statement
		p.silent = 0
	} else if p.isSilent(ctx, p.timeout-time.Until(deadline)) {
		p.pool.reset() // the others are likely to be dead too
	}
	return because(ctx, err)
}

// isSilent adds the time for which somebody has waited in vain, and tells whether that is enough to give up the connections
// of the pool: those that are dead must not answer one after the other.
func (p *publisher) isSilent(ctx context.Context, waited time.Duration) bool {
	if p.silent += waited; p.silent < p.timeout/2 || context.Cause(ctx) == errCutOff {
		return false
	}
	p.silent = 0
	return true
}

// because adds why a context has ended to an error that does not say so.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// release gives a connection back. What was sent is sent, whatever a hook does now.
func (p *publisher) release(conn publishConn) {
	err := errEnded // unless it returns
	defer p.catch(&err, "a hook of the pool")
	conn.release()
	err = nil
}

// catch makes an error of a panic, and reports where that, or the end of the goroutine, came from.
func (p *publisher) catch(err *error, what string) {
	if v := recover(); v != nil {
		*err = thrown(what, v)
	} else if *err != errEnded {
		return
	}
	p.report.trouble("panic", fmt.Errorf("pghub: notify: %w\n%s", *err, debug.Stack()))
}

// countEnded counts the calls without an outcome among those whose goroutine is at its end.
func (p *publisher) countEnded(calls []*call) {
	for _, c := range calls {
		if c.err == errUndecided {
			p.failures.Add(1)
		}
	}
}

// settle counts and names the outcome of calls that went together. It returns an error if there was no answer.
func (p *publisher) settle(calls []*call, sent bool, err error) error {
	if err == nil {
		p.batches.Add(1)
		p.events.Add(uint64(len(calls)))
		for _, c := range calls {
			c.err = nil
		}
		return nil
	}
	p.failures.Add(uint64(len(calls)))
	var pgErr *pgconn.PgError
	refused := sent && errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" // and rolled back
	outcome := err
	switch {
	case refused:
	case !sent, pgconn.SafeToRetry(err):
		outcome = fmt.Errorf("%w: %w", ErrNotConnected, err)
	default:
		outcome = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	for _, c := range calls {
		c.err = outcome
	}
	if refused {
		return nil
	}
	return err
}

// refusesOne tells an error about the data of one notification from one about all of them.
func refusesOne(err error) bool {
	var pgErr *pgconn.PgError
	const dataException = "22"
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" && len(pgErr.Code) == 5 && pgErr.Code[:2] == dataException
}
