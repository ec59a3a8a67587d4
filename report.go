package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// reporter tells the user of trouble without ever making the hub wait: the log at most once a second for the same cause,
// Config.OnError by a goroutine that exists only while there is something to say.
type reporter struct {
	logger  *slog.Logger
	onError func(error)

	mu        sync.Mutex
	logged    map[string]logged // by cause
	waiting   []error           // for onError
	unheard   uint64            // errors that found no room in waiting
	reporting bool
	idle      *sync.Cond // reporting has become false
}

type logged struct {
	at      time.Time
	skipped int // lines since then
}

func newReporter(cfg *Config) *reporter {
	logger := cfg.Logger
	if cfg.Name != "" {
		logger = logger.With("hub", cfg.Name)
	}
	r := &reporter{logger: logger, onError: cfg.OnError, logged: make(map[string]logged)}
	r.idle = sync.NewCond(&r.mu)
	return r
}

// trouble logs err and passes it to OnError.
func (r *reporter) trouble(cause string, err error, attrs ...any) {
	r.log(slog.LevelWarn, cause, err.Error(), attrs...)
	if r.onError == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= errorsWaitingForUser {
		r.unheard++
		return
	}
	r.waiting = append(r.waiting, err)
	if !r.reporting {
		r.reporting = true
		go r.run()
	}
}

// log writes a line, unless one on the same cause was written within the last second.
func (r *reporter) log(level slog.Level, cause, msg string, attrs ...any) {
	if !r.logger.Enabled(context.Background(), level) {
		return
	}
	r.mu.Lock()
	last, now := r.logged[cause], time.Now()
	if now.Sub(last.at) < logSilence {
		last.skipped++
		r.logged[cause] = last
		r.mu.Unlock()
		return
	}
	r.logged[cause] = logged{at: now}
	r.mu.Unlock()
	if last.skipped > 0 {
		attrs = append(attrs, "similar_lines_skipped", last.skipped)
	}
	r.logger.Log(context.Background(), level, msg, attrs...)
}

// run calls OnError with one error after another until none is left.
func (r *reporter) run() {
	for {
		r.mu.Lock()
		if len(r.waiting) == 0 {
			r.reporting = false
			r.idle.Broadcast()
			r.mu.Unlock()
			return
		}
		err := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.mu.Unlock()
		r.call(err)
	}
}

// call survives an OnError that panics, or that ends its goroutine (runtime.Goexit): then another one goes on.
func (r *reporter) call(err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		r.logger.Error("pghub: OnError panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if v == nil {
			go r.run()
		}
	}()
	r.onError(err)
	returned = true
}

// wait returns when OnError has heard of everything.
func (r *reporter) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.reporting {
		r.idle.Wait()
	}
}
