package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/pghub/pghub"
)

// errStopping says that the bridge stops, and does not try again what has failed.
var errStopping = errors.New("the bridge stops")

const maxRetryAfter = time.Hour

// send hands messages to the sink until each is taken, or refused. It goes on when the bridge stops, but not behind a failure. With an
// error it gives what is left.
func (r *route) send(ctx context.Context, h *hand, pending []outgoing, refuse func(outgoing, error)) (left []outgoing, err error) {
	failures := 0       // of the message that is first now
	most := r.cfg.Batch // messages that go together: one after a failure, then twice as many each time
	for len(pending) > 0 {
		switch {
		case ctx.Err() != nil:
			return pending, context.Cause(ctx)
		case r.stopping.Err() != nil && r.fig.isFailing():
			return pending, errStopping
		}
		n := r.together(pending, most)
		first := pending[0].m
		results := r.attempt(ctx, pending[:n])
		failed, cause := r.settle(pending[:n], results, refuse)
		settled := n - len(failed)
		pending = append(failed, pending[n:]...)
		r.fig.advance(h, settled, oldest(pending))
		if len(failed) == 0 {
			failures, most = 0, min(2*most, r.cfg.Batch)
			continue
		}
		if settled > 0 && errors.Is(cause, ErrNotSent) { // the sink takes some at a time
			failures = 0
			continue
		}
		most = 1
		if pending[0].m != first {
			failures = 0
		}
		failures++
		if ctx.Err() != nil {
			return pending, context.Cause(ctx)
		}
		if failures >= r.cfg.Attempts && r.cfg.Attempts > 0 && n == 1 {
			refuse(pending[0], fmt.Errorf("it has failed %d times: %w", failures, cause))
			pending = pending[1:]
			r.fig.advance(h, 1, oldest(pending))
			failures = 0
			continue
		}
		r.trouble(fmt.Errorf("%d of %d messages from %s on have failed, attempt %d: %w", len(failed), n, pending[0].m.ID, failures, cause))
		delay := r.backoff(failures - 1)
		var wish *retryAfter
		if errors.As(cause, &wish) {
			delay = min(max(wish.after, 0), maxRetryAfter)
		}
		if err := r.rest(ctx, delay); err != nil {
			return pending, err
		}
	}
	return nil, nil
}

// together says how many messages go to the sink at once.
func (r *route) together(pending []outgoing, most int) int {
	n, size := 1, len(pending[0].m.Body)
	for n < min(len(pending), most) && size+len(pending[n].m.Body) <= r.cfg.BatchBytes {
		size += len(pending[n].m.Body)
		n++
	}
	return n
}

// attempt calls the sink once, and says of each message what became of it.
func (r *route) attempt(ctx context.Context, some []outgoing) []error {
	batch := make([]*Message, len(some))
	for i, o := range some {
		batch[i] = o.m
	}
	r.fig.sent.Add(uint64(len(batch)))
	within, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := guarded("the sink", func() error { return r.cfg.Sink.Send(within, batch) })
	var each Errors
	if errors.As(err, &each) {
		if len(each) == len(batch) {
			return each
		}
		err = fmt.Errorf("the sink has an answer for %d messages, and got %d: %s", len(each), len(batch), each.Error()) // not which, so none counts
	}
	results := make([]error, len(batch))
	if err != nil {
		for i := range results {
			results[i] = err
		}
	}
	return results
}

// settle counts what became of messages, and gives those that are to be sent again, with why the first of them failed.
func (r *route) settle(some []outgoing, results []error, refuse func(outgoing, error)) (failed []outgoing, cause error) {
	confirmed, tried := 0, 0
	for i, o := range some {
		switch err := results[i]; {
		case err == nil:
			confirmed++
		case IsRefused(err):
			refuse(o, err)
		default:
			failed = append(failed, o)
			if !errors.Is(err, ErrNotSent) {
				tried++
			}
			if cause == nil || errors.Is(cause, ErrNotSent) {
				cause = err
			}
		}
	}
	r.fig.confirmed.Add(uint64(confirmed))
	r.fig.retried.Add(uint64(tried))
	answer := cause
	if tried == 0 { // what was not tried has not failed
		answer = nil
	}
	if r.fig.answered(answer) {
		r.rep.log(slog.LevelInfo, "bridge: the sink takes messages again", "route", r.cfg.Name)
	}
	return failed, cause
}

// guarded calls code of the user's, and makes an error of its panic.
func guarded(what string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %s: %v\n%s", pghub.ErrPanic, what, v, debug.Stack())
		}
	}()
	return do()
}
