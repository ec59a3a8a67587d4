package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// reporter writes the log and tells Config.OnError of trouble. Both run code of the user's, which may block, while what
// is reported comes from the goroutine that reads the connection and from under locks: so a goroutine that exists only
// while there is something to say does the talking.
type reporter struct {
	logger  *slog.Logger
	onError func(error)

	mu        sync.Mutex
	waiting   []report
	unheard   int                 // reports that found no room
	unheardAt time.Time           // when that was last said
	lines     map[string]lastLine // the last ones, by cause
	talking   bool
	quiet     chan struct{} // closed when talking ends; made when it begins
}

// report is a line for the log, an error for OnError, or both.
type report struct {
	level slog.Level
	line  string
	attrs []any
	err   error
}

// lastLine is when a cause was last written about, and how often it came up since.
type lastLine struct {
	at      time.Time
	skipped int
}

func newReporter(cfg *Config) *reporter {
	logger := cfg.Logger
	if cfg.Name != "" {
		logger = logger.With("hub", cfg.Name)
	}
	return &reporter{logger: logger, onError: cfg.OnError, lines: make(map[string]lastLine)}
}

// trouble logs err and passes it to OnError.
func (r *reporter) trouble(cause string, err error, attrs ...any) {
	r.report(cause, report{level: slog.LevelWarn, line: err.Error(), attrs: attrs, err: err})
}

// log writes a line, unless one on the same cause was written within the last second.
func (r *reporter) log(level slog.Level, cause, msg string, attrs ...any) {
	r.report(cause, report{level: level, line: msg, attrs: attrs})
}

func (r *reporter) report(cause string, rep report) {
	logged := r.logger.Enabled(context.Background(), rep.level)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !logged || !r.dueLocked(cause, &rep) {
		rep.line = ""
	}
	if r.onError == nil {
		rep.err = nil
	}
	switch {
	case rep.line == "" && rep.err == nil:
		return
	case len(r.waiting) >= errorsWaitingForUser:
		r.unheard++
		return
	}
	r.waiting = append(r.waiting, rep)
	if !r.talking {
		r.talking, r.quiet = true, make(chan struct{})
		go r.talk()
	}
}

// dueLocked limits the lines on one cause.
func (r *reporter) dueLocked(cause string, rep *report) bool {
	last, now := r.lines[cause], time.Now()
	if now.Sub(last.at) < logSilence {
		last.skipped++
		r.lines[cause] = last
		return false
	}
	r.lines[cause] = lastLine{at: now}
	if last.skipped > 0 {
		rep.attrs = append(rep.attrs, "similar_lines_skipped", last.skipped)
	}
	return true
}

// talk says one thing after another until nothing is left.
func (r *reporter) talk() {
	for {
		r.mu.Lock()
		var next report
		switch {
		case r.unheard > 0 && time.Since(r.unheardAt) >= logSilence:
			next = report{level: slog.LevelWarn, line: "pghub: OnError is slow: errors were not passed to it", attrs: []any{"errors", r.unheard}}
			r.unheard, r.unheardAt = 0, time.Now()
		case len(r.waiting) > 0:
			next, r.waiting = r.waiting[0], r.waiting[1:]
		default:
			r.talking = false
			close(r.quiet)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.say(next)
	}
}

// say survives a user's code that panics, or that ends its goroutine (runtime.Goexit): then another one goes on.
func (r *reporter) say(rep report) {
	writing, returned := rep.line != "", false
	defer func() {
		if returned {
			return
		}
		v := recover()
		next := report{err: rep.err} // there is nowhere to log that the logger fails
		if !writing {
			next = report{level: slog.LevelError, line: "pghub: OnError panicked", attrs: []any{"panic", fmt.Sprint(v), "stack", string(debug.Stack())}}
		}
		r.mu.Lock()
		if writing || r.dueLocked("OnError", &next) {
			r.waiting = slices.Insert(r.waiting, 0, next)
		}
		r.mu.Unlock()
		if v == nil {
			go r.talk()
		}
	}()
	if writing {
		r.logger.Log(context.Background(), rep.level, rep.line, rep.attrs...)
		writing = false
	}
	if rep.err != nil {
		r.onError(rep.err)
	}
	returned = true
}

// wait returns when everything has been said, or after some time: OnError itself may be what waits for the hub to stop.
func (r *reporter) wait(atMost time.Duration) {
	r.mu.Lock()
	talking, quiet := r.talking, r.quiet
	r.mu.Unlock()
	if !talking {
		return
	}
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	select {
	case <-quiet:
	case <-timeout.C:
	}
}
