package pghub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// reportLog is a logger that keeps its lines, as `LEVEL message key=value …`.
type reportLog struct {
	mu    sync.Mutex
	lines []string
	level slog.Level
	with  string
	trap  func() // runs before a line is written
}

func (l *reportLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *reportLog) Handle(_ context.Context, rec slog.Record) error {
	if l.trap != nil {
		l.trap()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line := rec.Level.String() + " " + rec.Message + l.with
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key != "stack" {
			line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	l.lines = append(l.lines, line)
	return nil
}

func (l *reportLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.with += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return l
}

func (l *reportLog) WithGroup(string) slog.Handler { return l }

func (l *reportLog) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// OnError hears of one error after another, in order, however many goroutines report.
func TestReportOneAtATime(t *testing.T) {
	const reporters, errs = 20, 40
	var inside atomic.Bool
	var heard []error // the race detector watches it, too
	r := newReporter(&Config{Logger: slog.New(slog.DiscardHandler), OnError: func(err error) {
		if inside.Swap(true) {
			t.Error("OnError runs twice at a time")
		}
		heard = append(heard, err)
		runtime.Gosched()
		inside.Store(false)
	}})
	var waits sync.WaitGroup
	for i := range reporters {
		waits.Go(func() {
			for n := range errs {
				r.trouble("test", fmt.Errorf("%d %d", i, n))
			}
		})
	}
	waits.Wait()
	r.wait(time.Minute)
	require.Len(t, heard, reporters*errs)
	next := make(map[int]int)
	for _, err := range heard {
		var i, n int
		_, scanErr := fmt.Sscan(err.Error(), &i, &n)
		require.NoError(t, scanErr)
		require.Equal(t, next[i], n)
		next[i]++
	}
}

// An OnError that does not return delays nobody, and what waits for it is bounded.
func TestReportNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &reportLog{}
		release := make(chan struct{})
		heard := 0
		r := newReporter(&Config{Logger: slog.New(log), OnError: func(error) {
			<-release
			heard++
		}})
		r.trouble("test", errors.New("first"))
		synctest.Wait() // it is with OnError
		const more = errorsWaitingForUser + 100
		for range more {
			r.trouble("test", errors.New("another"))
		}
		require.Len(t, r.errs.waiting, errorsWaitingForUser)
		require.Equal(t, []string{"WARN first"}, log.said(), "the log goes on")
		close(release)
		synctest.Wait()
		require.Equal(t, 1+errorsWaitingForUser, heard)
		require.Contains(t, log.said()[len(log.said())-1], "errors=100", "how many found no room is logged")
		require.False(t, r.errs.talking || r.lines.talking)
	})
}

// A logger that blocks delays nobody either, not even OnError, and what waits for it is bounded.
func TestReportSlowLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		log := &reportLog{trap: func() { <-release }}
		heard := 0
		r := newReporter(&Config{Logger: slog.New(log), OnError: func(error) { heard++ }})
		r.log(slog.LevelInfo, "a", "one")
		r.log(slog.LevelInfo, "b", "two")
		r.trouble("c", errors.New("three"))
		synctest.Wait()
		require.Empty(t, log.said())
		require.Equal(t, 1, heard)
		for i := range errorsWaitingForUser + 98 {
			r.log(slog.LevelInfo, fmt.Sprint("cause ", i), "more")
		}
		require.Len(t, r.lines.waiting, errorsWaitingForUser)
		close(release)
		synctest.Wait()
		said := log.said()
		require.Len(t, said, 1+errorsWaitingForUser+1)
		require.Equal(t, "INFO one", said[0])
		require.Contains(t, said[1], "lines=100", "how many found no room is said")
		require.Equal(t, []string{"INFO two", "WARN three"}, said[2:4])
	})
}

// No code of the user's runs on the goroutine that reports, which may hold locks: none asks it whether it wants a line, and
// none formats one.
func TestReportRunsNothingWhereItIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		blocked := blockedLog{held}
		r := newReporter(&Config{Logger: slog.New(blocked), OnError: func(error) {}})
		r.trouble("a", errors.New("a"), "attr", blocked)
		r.log(slog.LevelDebug, "b", "b")
		synctest.Wait()
		close(held) // nobody has waited for it
		synctest.Wait()
		require.False(t, r.errs.talking || r.lines.talking)
	})
}

// blockedLog is a logger, and an attribute of a line, that waits in whatever it is asked.
type blockedLog struct{ held chan struct{} }

func (b blockedLog) wait() { <-b.held }

func (b blockedLog) Enabled(context.Context, slog.Level) bool  { b.wait(); return true }
func (b blockedLog) Handle(context.Context, slog.Record) error { b.wait(); return nil }
func (b blockedLog) WithAttrs([]slog.Attr) slog.Handler        { return b }
func (b blockedLog) WithGroup(string) slog.Handler             { return b }
func (b blockedLog) LogValue() slog.Value                      { b.wait(); return slog.Value{} }

func TestReportSurvives(t *testing.T) {
	for name, c := range map[string]struct {
		fail func()
		line string
	}{
		"panic":  {func() { panic("oops") }, "panic=oops"},
		"Goexit": {runtime.Goexit, "panic=<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &reportLog{}
				var heard []string
				r := newReporter(&Config{Logger: slog.New(log), OnError: func(err error) {
					heard = append(heard, err.Error())
					if len(heard)%2 == 1 {
						c.fail()
					}
				}})
				for _, word := range []string{"a", "b", "c", "d"} {
					r.trouble(word, errors.New(word))
				}
				synctest.Wait()
				require.Equal(t, []string{"a", "b", "c", "d"}, heard)
				require.False(t, r.errs.talking || r.lines.talking)
				require.Len(t, log.said(), 5, "that it happened twice is not said twice within a second")
				require.True(t, slices.ContainsFunc(log.said(), func(l string) bool { return strings.Contains(l, c.line) }))
			})
		})
		t.Run("logger: "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				heard := 0
				r := newReporter(&Config{Logger: slog.New(&reportLog{trap: c.fail}), OnError: func(error) { heard++ }})
				r.trouble("a", errors.New("a"))
				r.trouble("a", errors.New("b")) // within the same second: not logged
				synctest.Wait()
				require.Equal(t, 2, heard)
				require.False(t, r.errs.talking || r.lines.talking)
			})
		})
	}
}

// The log says the same thing at most once a second, and how often it was left out.
func TestReportLimitsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &reportLog{}
		r := newReporter(&Config{Logger: slog.New(log), Name: "one"})
		for i := range 35 {
			r.trouble("a", fmt.Errorf("a%d", i), "attempt", i)
			if i == 0 {
				r.log(slog.LevelInfo, "b", "another cause")
			}
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, []string{
			"WARN a0 hub=one attempt=0",
			"INFO another cause hub=one",
			"WARN a10 hub=one attempt=10 similar_lines_skipped=9",
			"WARN a20 hub=one attempt=20 similar_lines_skipped=9",
			"WARN a30 hub=one attempt=30 similar_lines_skipped=9",
		}, log.said())
	})
}

// The limit is that of the log: OnError hears of every error.
func TestReportTellsEveryError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &reportLog{level: slog.LevelError}
		heard := 0
		r := newReporter(&Config{Logger: slog.New(log), OnError: func(error) { heard++ }})
		for range 10 {
			r.trouble("a", errors.New("a"))
			r.log(slog.LevelWarn, "b", "b")
		}
		synctest.Wait()
		require.Equal(t, 10, heard)
		require.Empty(t, log.said(), "lines below the logger's level")
	})
}

func TestReportSilent(t *testing.T) {
	cfg, err := Config{Pool: unitPool()}.withDefaults()
	require.NoError(t, err)
	r := newReporter(&cfg)
	r.trouble("a", errors.New("a"))
	r.log(slog.LevelError, "a", "a")
	require.False(t, r.errs.talking || r.lines.talking, "there is nobody to talk to")
}

// Stop waits until everything has been said, though not for an OnError that waits for Stop.
func TestReportWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		heard := 0
		r := newReporter(&Config{Logger: slog.New(slog.DiscardHandler), OnError: func(error) {
			<-release
			heard++
		}})
		r.wait(time.Hour) // for nothing
		r.trouble("a", errors.New("a"))
		r.trouble("a", errors.New("b"))
		start := time.Now()
		r.wait(time.Minute)
		require.Equal(t, time.Minute, time.Since(start))
		go func() {
			time.Sleep(time.Second)
			close(release)
		}()
		r.wait(time.Minute)
		require.Equal(t, time.Minute+time.Second, time.Since(start))
		require.Equal(t, 2, heard)
	})
}

// All that found no room is told, however soon after the last time: here the second loss is, when nothing else is left to say.
func TestSpeakerTellsOfEveryLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const over = 7
		busy, missed := make(chan struct{}), 0
		s := speaker[int]{say: func(int) { <-busy }, missed: func(n int) { missed += n }}
		for range 2 {
			s.add(0)
			synctest.Wait() // it is being said
			for range errorsWaitingForUser + over {
				s.add(0)
			}
			for range errorsWaitingForUser + 1 {
				busy <- struct{}{}
			}
			synctest.Wait()
		}
		require.Equal(t, 2*over, missed)
		require.False(t, s.talking)
	})
}
