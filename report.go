package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// reporter writes the log and tells Config.OnError of trouble. Both are code of the user's, which may block or panic, while
// what is reported comes from the goroutine that reads the connection and from under locks: so each of the two has a goroutine
// of its own, which exists only while there is something to say. Neither holds up the other.
type reporter struct {
	logger  *slog.Logger
	silent  bool // the logger discards everything
	onError func(error)
	lines   speaker[line]
	errs    speaker[error]

	mu     sync.Mutex
	latest map[string]lastLine // by cause
}

// line is a line for the log.
type line struct {
	level slog.Level
	text  string
	attrs []any
}

// lastLine is when a cause was last written about, and how often it came up since.
type lastLine struct {
	at      time.Time
	skipped int
}

func newReporter(cfg *Config) *reporter {
	r := &reporter{logger: cfg.Logger, onError: cfg.OnError, latest: make(map[string]lastLine)}
	r.silent = r.logger.Handler() == slog.DiscardHandler
	if cfg.Name != "" {
		r.logger = r.logger.With("hub", cfg.Name)
	}
	r.lines.say = r.write
	r.lines.missed = func(n int) {
		r.write(line{slog.LevelWarn, "pghub: the log is slow: lines were left out", []any{"lines", n}})
	}
	r.errs.say = r.onError
	r.errs.failed = func(value any) {
		r.log(slog.LevelError, "OnError", "pghub: OnError panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	}
	r.errs.missed = func(n int) {
		r.lines.add(line{slog.LevelWarn, "pghub: OnError is slow: errors were not passed to it", []any{"errors", n}})
	}
	return r
}

// trouble logs err and passes it to OnError.
func (r *reporter) trouble(cause string, err error, attrs ...any) {
	r.log(slog.LevelWarn, cause, err.Error(), attrs...)
	if r.onError != nil {
		r.errs.add(err)
	}
}

// log writes a line, unless one on the same cause was written within the last second.
func (r *reporter) log(level slog.Level, cause, msg string, attrs ...any) {
	if r.silent {
		return
	}
	skipped, due := r.isDue(cause)
	if !due {
		return
	}
	if skipped > 0 {
		attrs = append(attrs, "similar_lines_skipped", skipped)
	}
	r.lines.add(line{level, msg, attrs})
}

// isDue limits the lines on one cause.
func (r *reporter) isDue(cause string) (skipped int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, now := r.latest[cause], time.Now()
	if now.Sub(last.at) < logSilence {
		last.skipped++
		r.latest[cause] = last
		return 0, false
	}
	r.latest[cause] = lastLine{at: now}
	return last.skipped, true
}

func (r *reporter) write(l line) {
	r.logger.Log(context.Background(), l.level, l.text, l.attrs...)
}

// wait returns when everything has been said, or after some time: OnError itself may be what waits for the hub to stop.
func (r *reporter) wait(atMost time.Duration) {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	for _, quiet := range []func() <-chan struct{}{r.errs.silence, r.lines.silence} { // errors may become lines
		select {
		case <-quiet():
		case <-timeout.C:
			return
		}
	}
}

// speaker passes one thing after another to code of the user's, on a goroutine that exists only while there is something to
// say. Up to errorsWaitingForUser of them wait.
type speaker[T any] struct {
	say    func(T)
	failed func(value any) // say has panicked with it or, where it is nil, ended its goroutine; nil: there is nobody to tell
	missed func(n int)     // so many found no room

	mu       sync.Mutex
	waiting  []T
	lost     int       // what found no room since missed was called
	missedAt time.Time // when it was
	talking  bool
	quiet    chan struct{} // closed when talking ends; made when it begins
}

// add says something, soon.
func (s *speaker[T]) add(what T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= errorsWaitingForUser {
		s.lost++
		return
	}
	s.waiting = append(s.waiting, what)
	if !s.talking {
		s.talking, s.quiet = true, make(chan struct{})
		go s.talk()
	}
}

// talk says one thing after another until nothing is left.
func (s *speaker[T]) talk() {
	for next := s.next(); next != nil; next = s.next() {
		s.survive(next)
	}
}

// next is what to say next. nil: nothing, and talking ends.
func (s *speaker[T]) next() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost > 0 && (len(s.waiting) == 0 || time.Since(s.missedAt) >= logSilence):
		lost := s.lost
		s.lost, s.missedAt = 0, time.Now()
		return func() { s.missed(lost) }
	case len(s.waiting) > 0:
		what := s.waiting[0]
		s.waiting = s.waiting[1:]
		return func() { s.say(what) }
	}
	s.talking = false
	close(s.quiet)
	return nil
}

// survive calls code that may panic, or end its goroutine (runtime.Goexit): then another one goes on.
func (s *speaker[T]) survive(next func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if s.failed != nil {
			s.failed(value)
		}
		if value == nil {
			go s.talk()
		}
	}()
	next()
	returned = true
}

// silence is closed when nothing is left to say.
func (s *speaker[T]) silence() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.talking {
		return s.quiet
	}
	none := make(chan struct{})
	close(none)
	return none
}
