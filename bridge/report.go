package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// reporter writes the log and tells OnError. Both are code of the user's, which may block or panic, so a goroutine of the bridge's does it,
// and a route never waits for it: what finds no room is left out.
type reporter struct {
	logger  *slog.Logger
	onError func(error)
	lines   chan line
	quit    chan struct{}
	ended   chan struct{} // closed when all has been said
}

// line is something to say. err is nil for one that is for the log alone.
type line struct {
	level slog.Level
	text  string
	err   error
	attrs []any
}

const linesWaiting = 256

func newReporter(cfg *Config) *reporter {
	return &reporter{
		logger: cfg.Logger, onError: cfg.OnError,
		lines: make(chan line, linesWaiting), quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

// run says what is to be said until quit is closed, and then what is left.
func (r *reporter) run() {
	defer close(r.ended)
	for {
		select {
		case l := <-r.lines:
			r.say(l)
			continue
		case <-r.quit:
		}
		for {
			select {
			case l := <-r.lines:
				r.say(l)
			default:
				return
			}
		}
	}
}

// stop ends run, and waits until everything has been said, or for some time: OnError may itself be what waits for Stop.
func (r *reporter) stop(atMost time.Duration) {
	close(r.quit)
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	select {
	case <-r.ended:
	case <-timeout.C:
	}
}

func (r *reporter) say(l line) {
	defer func() {
		if v := recover(); v != nil {
			r.logPanic(v)
		}
	}()
	r.logger.Log(context.Background(), l.level, l.text, l.attrs...)
	if l.err != nil && r.onError != nil {
		r.onError(l.err)
	}
}

func (r *reporter) logPanic(v any) {
	defer func() { _ = recover() }() // the log itself panics: there is nobody to tell
	r.logger.Error("bridge: OnError panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

func (r *reporter) trouble(err error, attrs ...any) {
	r.put(line{slog.LevelWarn, err.Error(), err, attrs})
}

func (r *reporter) log(level slog.Level, text string, attrs ...any) {
	r.put(line{level, text, nil, attrs})
}

func (r *reporter) put(l line) {
	select {
	case r.lines <- l:
	default: // OnError, or the log, is slow
	}
}
