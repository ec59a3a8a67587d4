package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pghub/pghub"
)

// retryAfter is an error with the time that its event is to wait.
type retryAfter struct {
	after time.Duration
	err   error
}

func (e *retryAfter) Error() string { return e.err.Error() }
func (e *retryAfter) Unwrap() error { return e.err }

// RetryAfter is err for a handler to return that wants its event again after d, and not after the usual backoff. It counts as
// an attempt. Where a negative d is given, the event comes again at once.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("to be tried again")
	}
	return &retryAfter{d, err}
}

// skip is an error that will not go away.
type skip struct{ err error }

func (e *skip) Error() string { return e.err.Error() }
func (e *skip) Unwrap() error { return e.err }

// Skip is err for a handler to return that will never be able to handle its event: it is poison at once, see [Poison].
func Skip(err error) error {
	if err == nil {
		err = errors.New("skipped")
	}
	return &skip{err}
}

// backoff is the wait after so many failures.
func (d *Durable) backoff(failures int) time.Duration {
	ceiling := d.cfg.RetryMax
	if failures < 32 && d.cfg.RetryMin < ceiling>>failures {
		ceiling = d.cfg.RetryMin << failures
	}
	return rand.N(ceiling + 1)
}

// guarded calls code of the user's on a goroutine of its own: its panic, and its runtime.Goexit, are errors.
func guarded(what string, do func() error) error {
	result := make(chan error, 1)
	go func() {
		var err error
		returned := false
		defer func() {
			if !returned {
				err = fmt.Errorf("%w: %s ended its goroutine", pghub.ErrPanic, what)
			}
			if v := recover(); v != nil {
				err = fmt.Errorf("%w: %s: %v\n%s", pghub.ErrPanic, what, v, debug.Stack())
				if cause, is := v.(error); is {
					err = fmt.Errorf("%w: %s: %w\n%s", pghub.ErrPanic, what, cause, debug.Stack())
				}
			}
			result <- err
		}()
		err = do()
		returned = true
	}()
	return <-result
}

// end is how an event was done.
type end struct {
	parked  bool // and not handled
	counted bool // the server has attempts of it, to be forgotten
}

// untilDone tries to handle an event until it is done: handled, or parked. The error says why it is not: the tenure has
// ended, the consumer is to stop, or it has halted. inStep: the event is the next one behind the stored position, which is stored in
// the transaction that parks it.
func (t *tenure) untilDone(ctx context.Context, ev *pghub.Event, inStep bool, try func(ctx context.Context, ev *pghub.Event) error) (end, error) {
	d, at := t.d, ev.Record.Position
	attempts := t.known[at]
	counted := attempts > 0
	parked := end{parked: true}
	var last error
	for failures := 0; ; failures++ {
		if d.isStopping() {
			return end{}, errStopping
		}
		if ctx.Err() != nil {
			return end{}, context.Cause(ctx)
		}
		if attempts++; attempts > d.cfg.MaxAttempts && d.cfg.MaxAttempts > 0 {
			if last == nil {
				last = errors.New("it has been tried so often, and whoever did so did not live to say how it ended")
			}
			return parked, t.poison(ctx, ev, inStep, attempts-1, last)
		}
		if attempts > 1 || t.wary.Load() > 0 {
			t.wary.Add(-1)
			if err := t.count(ctx, at, attempts, last); err != nil {
				return end{}, err
			}
			counted = true
		}
		own := newRecorded(ev, ev.Record) // what other readers share has no attempt
		own.Record.Attempt = attempts
		err := guarded("the handler", func() error { return try(ctx, own) })
		if err == nil {
			d.delivered.Add(1)
			return end{counted: counted}, nil
		}
		if ctx.Err() != nil {
			return end{}, context.Cause(ctx)
		}
		switch {
		case errors.Is(err, errBroken), errors.Is(err, errSetBack):
			return end{}, err
		case errors.Is(err, errNotBegun): // no attempt
			attempts--
			if err := t.rest(ctx, d.s.host.Backoff(failures)); err != nil {
				return end{}, err
			}
			continue
		}
		d.failed.Add(1)
		last = err
		var hopeless *skip
		if errors.As(err, &hopeless) {
			return parked, t.poison(ctx, ev, inStep, attempts, err)
		}
		d.s.trouble("handler", fmt.Errorf("consumer %q, event %v of topic %q, attempt %d: %w", d.name, at, ev.Topic, attempts, err))
		delay := d.backoff(failures)
		var wish *retryAfter
		if errors.As(err, &wish) {
			delay = max(wish.after, 0)
		}
		if attempts < d.cfg.MaxAttempts || d.cfg.MaxAttempts < 0 {
			if err := t.rest(ctx, delay); err != nil {
				return end{}, err
			}
		}
	}
}

// poison ends the tries of an event that cannot be handled. Who halts leaves one try to whoever is started next, mended perhaps.
func (t *tenure) poison(ctx context.Context, ev *pghub.Event, inStep bool, attempts int, cause error) error {
	at := ev.Record.Position
	if t.d.cfg.Poison == Halt {
		if attempts >= t.d.cfg.MaxAttempts && t.d.cfg.MaxAttempts > 0 {
			if err := t.count(ctx, at, t.d.cfg.MaxAttempts-1, cause); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w: event %v of topic %q, %d attempts: %w", ErrHalted, at, ev.Topic, attempts, cause)
	}
	sql := `SELECT pghub.park($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	key := ev.Key
	var value, headers *string
	if ev.Value != nil {
		text := string(ev.Value)
		value = &text
	}
	if h := ev.Record.Headers; h != nil {
		text := encodeHeaders(h)
		headers = &text
	}
	text := fmt.Sprintf("%.4000s", cause.Error())
	args := []any{t.d.name, t.token, at.Tick, at.Txn, at.ID, ev.Topic, key, value, headers, ev.Record.Time, attempts, cleanText(text)}
	if inStep { // else the event might come again, be handled, and once more when it is unparked
		sql += `, pghub.store($1, $2, $13, $3, $4, $5, false, $14, $15, $16)`
		since := t.lastConfirmed()
		args = append(args, t.d.cfg.Lease, since.Tick, since.Txn, since.ID)
	}
	err := t.insist(ctx, func(ctx context.Context) error { return t.d.s.db.exec(ctx, sql, args...) })
	if err == nil && inStep {
		t.confirm(at, false)
	}
	if err != nil {
		return err
	}
	t.d.parked.Add(1)
	t.d.s.trouble("parked", fmt.Errorf("consumer %q: event %v of topic %q is parked: %w", t.d.name, at, ev.Topic, cause))
	return nil
}

// count stores that an attempt begins.
func (t *tenure) count(ctx context.Context, at Position, attempts int, last error) error {
	var text *string
	if last != nil {
		s := cleanText(fmt.Sprintf("%.4000s", last.Error()))
		text = &s
	}
	return t.insist(ctx, func(ctx context.Context) error {
		return t.d.s.db.exec(ctx, `SELECT pghub.attempt($1, $2, $3, $4, $5, $6, $7)`, t.d.name, t.token, at.Tick, at.Txn, at.ID, attempts, text)
	})
}

// succeeded forgets the attempts of an event. If that fails, they are counted on when it comes again.
func (t *tenure) succeeded(ctx context.Context, at Position) {
	err := t.insist(ctx, func(ctx context.Context) error {
		return t.d.s.db.exec(ctx, `SELECT pghub.succeeded($1, $2, $3, $4, $5)`, t.d.name, t.token, at.Tick, at.Txn, at.ID)
	})
	if err != nil && ctx.Err() == nil {
		t.d.s.trouble("attempts", err)
	}
}

// insist does something on the server until it has an answer.
func (t *tenure) insist(ctx context.Context, do func(context.Context) error) error {
	for failures := 0; ; failures++ {
		within, cancel := context.WithTimeout(ctx, t.d.cfg.Lease)
		err := do(within)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrFenced), !errors.Is(err, pghub.ErrNotConnected) && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		t.d.s.trouble("store", err)
		if err := t.rest(ctx, t.d.s.host.Backoff(failures)); err != nil {
			return err
		}
	}
}

func encodeHeaders(headers map[string]string) string {
	text, err := json.Marshal(headers)
	if err != nil {
		return "{}" // cannot be: keys and values are text
	}
	return string(text)
}

// cleanText is text that PostgreSQL takes.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
