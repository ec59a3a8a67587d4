package pghub

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/jackc/pgx/v5/pgconn"
)

// This file is what the publisher does with a batch: a connection, statements, time limits, and what came of it.

func (p *publisher) acquire() (conn publishConn, err error) {
	defer p.catch(&err, "a hook of the pool")
	p.mu.Lock()
	ctx := p.cut
	if len(p.waiting) > 0 {
		ctx = p.contextOf(p.waiting[0].calls)
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout/2, p.noConnection)
	defer cancel()
	if conn, err = p.pool.acquire(ctx); err != nil && context.Cause(ctx) == p.noConnection {
		p.pool.resetIdle() // it was looking at a dead one
		err = fmt.Errorf("%w: %w", p.noConnection, err)
	}
	return conn, err
}

// sendAll sends calls in one statement, or in several if the server refuses one of them: it does not say which. Each gets its
// outcome. An error means that the server no longer answers.
func (p *publisher) sendAll(conn publishConn, calls []*call) error {
	err := p.send(conn, calls)
	if len(calls) == 1 || !refusesOne(err) {
		return p.settle(calls, true, err)
	}
	half := len(calls) / 2 // nothing was committed
	if err := p.sendAll(conn, calls[:half]); err != nil {
		return p.settle(calls[half:], false, err)
	}
	return p.sendAll(conn, calls[half:])
}

// send sends calls in one statement.
func (p *publisher) send(conn publishConn, calls []*call) (err error) {
	defer p.catch(&err, "a tracer")
	ctx, cancel := context.WithTimeoutCause(p.contextOf(calls), p.timeout, p.noAnswer)
	defer cancel()
	if err = conn.notify(ctx, calls); err != nil && context.Cause(ctx) == p.noAnswer {
		p.pool.reset() // the others are likely to be dead too: they must not answer one after the other
		err = fmt.Errorf("%w: %w", p.noAnswer, err)
	}
	return err
}

// contextOf is the context of what is done for calls. To a tracer it says whose statement it is, if that is one caller's.
func (p *publisher) contextOf(calls []*call) context.Context {
	if len(calls) == 1 {
		return withValues{p.cut, calls[0].ctx}
	}
	return p.cut
}

// release gives a connection back. What was sent is sent, whatever a hook does now.
func (p *publisher) release(conn publishConn) {
	var ignored error
	defer p.catch(&ignored, "a hook of the pool")
	conn.release()
}

// catch makes an error of a panic, and reports where it came from.
func (p *publisher) catch(err *error, what string) {
	if v := recover(); v != nil {
		*err = thrown(what, v)
		p.report.trouble("panic", fmt.Errorf("pghub: notify: %w\n%s", *err, debug.Stack()))
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
	if p.cut.Err() != nil {
		err = fmt.Errorf("%w: %w", errCutOff, err)
	}
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

var errCutOff = errors.New("the hub was cut off")

// refusesOne tells an error about the data of one notification from one about all of them.
func refusesOne(err error) bool {
	var pgErr *pgconn.PgError
	const dataException = "22"
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" && len(pgErr.Code) == 5 && pgErr.Code[:2] == dataException
}

// withValues is a context with the values of another one, which may have ended.
type withValues struct {
	context.Context
	values context.Context
}

func (c withValues) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // what package context keeps there for itself
		return v
	}
	return c.values.Value(key)
}
