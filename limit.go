package pghub

import (
	"context"
	"errors"
	"sync"
	"time"
)

// limit ends the context of what is under way when its time is up, or when the hub is cut off. One timer serves all that
// comes, one after the other, and most of it begins and ends without touching the timer. Contexts with timers of their own
// cost a caller who is alone 4 µs more.
type limit struct {
	mu       sync.Mutex
	cancel   context.CancelCauseFunc // of what is under way; nil: nothing is
	deadline time.Time               // of that
	cause    error                   // to end it with then
	timer    *time.Timer             // calls look
	at       time.Time               // when it will; zero: it will not
	cut      bool                    // there is no time left for anything
}

var errCutOff = errors.New("the hub was cut off")

// begin makes a context for something new. end must be called when that is over.
func (l *limit) begin(ctx context.Context) (limited context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel, l.cause, l.deadline = cancel, nil, time.Time{}
	if l.cut {
		cancel(errCutOff)
	}
	return ctx, l.end
}

func (l *limit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(nil)
	l.cancel = nil
}

// allow says how long the next step of what is under way may take, and what ends it then.
func (l *limit) allow(most time.Duration, cause error) (deadline time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline, l.cause = time.Now().Add(most), cause
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(most, l.look)
	case l.at.IsZero() || l.at.After(l.deadline):
		l.timer.Reset(most)
	default:
		return l.deadline // look will come, and set it anew
	}
	l.at = l.deadline
	return l.deadline
}

// look ends what is under way if its time is up.
func (l *limit) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Time{}
	if l.cancel == nil || l.deadline.IsZero() {
		return
	}
	if left := time.Until(l.deadline); left > 0 {
		l.timer.Reset(left)
		l.at = l.deadline
		return
	}
	l.cancel(l.cause)
}

// cutOff ends what is under way, and all that is still to come.
func (l *limit) cutOff() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	if l.cancel != nil {
		l.cancel(errCutOff)
	}
}

// close lets go of the timer.
func (l *limit) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil && l.cancel == nil {
		l.timer.Stop()
		l.at = time.Time{}
	}
}

// withDeadline tells a deadline to those who ask for it: a pool destroys a connection that it still waits for then.
type withDeadline struct {
	context.Context
	deadline time.Time
}

func (c withDeadline) Deadline() (time.Time, bool) {
	if d, limited := c.Context.Deadline(); limited && d.Before(c.deadline) {
		return d, true
	}
	return c.deadline, true
}
