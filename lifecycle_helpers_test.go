package pghub

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// patience is how long a test waits for what should come at once: a loaded machine is slow, a hung test is hopeless.
const patience = time.Minute

// The supervisory events, to the letter.
const (
	lineConnect    = `{"action":"connect","final":false}`
	lineDisconnect = `{"action":"disconnect","final":false}`
	lineReconnect  = `{"action":"reconnect","final":false}`
	lineStop       = `{"action":"stop","final":true}`
	lineClose      = `{"action":"close","final":true}`
)

func lineSubscribe(topic string) string {
	return fmt.Sprintf(`{"action":"subscribe","topic":%q,"final":false}`, topic)
}

func lineLag(dropped int) string {
	return fmt.Sprintf(`{"action":"lag","dropped":%d,"final":false}`, dropped)
}

// lineOf shows an event as "topic payload", a supervisory event as its value.
func lineOf(ev *Event) string {
	if ev.Advisory != nil {
		return string(ev.Value)
	}
	return ev.Topic + " " + string(ev.Payload)
}

// witness is a handler that remembers what it has seen.
type witness struct {
	mu    sync.Mutex
	seen  []*Event
	more  chan struct{} // has room for one
	taken int           // by the test's goroutine
}

func newWitness() *witness { return &witness{more: make(chan struct{}, 1)} }

func (w *witness) handle(_ context.Context, ev *Event) {
	w.mu.Lock()
	w.seen = append(w.seen, ev)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// take waits for the next event.
func (w *witness) take(t *testing.T) *Event {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		if w.taken < len(w.seen) {
			ev := w.seen[w.taken]
			w.taken++
			w.mu.Unlock()
			return ev
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-timeout.C:
			require.FailNow(t, "no event came", "after %v", w.lines())
		}
	}
}

// expect waits for the next events, which must be these.
func (w *witness) expect(t *testing.T, lines ...string) {
	t.Helper()
	for i, want := range lines {
		require.Equal(t, want, lineOf(w.take(t)), "event %d", i)
	}
}

// await skips events until one is as wanted, which it returns.
func (w *witness) await(t *testing.T, want string) *Event {
	t.Helper()
	for {
		if ev := w.take(t); lineOf(ev) == want {
			return ev
		}
	}
}

// rest takes what has come and was not taken yet.
func (w *witness) rest() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := linesOf(w.seen[w.taken:])
	w.taken = len(w.seen)
	return lines
}

// lines shows all that has come.
func (w *witness) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return linesOf(w.seen)
}

func linesOf(events []*Event) []string {
	lines := make([]string, len(events))
	for i, ev := range events {
		lines[i] = lineOf(ev)
	}
	return lines
}

// requireNumbers requires that w has seen n events of a topic, whose only keys are their numbers, in order and once.
func (w *witness) requireNumbers(t *testing.T, topic string, n int) {
	t.Helper()
	next := 0
	for _, l := range w.lines() {
		if payload, found := strings.CutPrefix(l, topic+" e"); found {
			number, _, _ := strings.Cut(payload, ":")
			require.Equal(t, fmt.Sprint(next), number)
			next++
		}
	}
	require.Equal(t, n, next, "events on %s", topic)
}

// errorLog is a Config.OnError that remembers what it was told.
type errorLog struct {
	mu   sync.Mutex
	errs []error
	more chan struct{} // has room for one
}

func newErrorLog() *errorLog { return &errorLog{more: make(chan struct{}, 1)} }

func (l *errorLog) onError(err error) {
	l.mu.Lock()
	l.errs = append(l.errs, err)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *errorLog) all() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errs)
}

// await waits for an error that matches.
func (l *errorLog) await(t *testing.T, matches func(error) bool) error {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		for _, err := range l.all() {
			if matches(err) {
				return err
			}
		}
		select {
		case <-l.more:
		case <-timeout.C:
			require.FailNow(t, "no such error was reported", "only %v", l.all())
		}
	}
}

// within is a context that bounds what a test waits for.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// passing lets the time of a bubble pass, a step at a time, until something is so.
func passing(t *testing.T, step time.Duration, is func() bool) {
	t.Helper()
	for range 100_000 {
		if synctest.Wait(); is() {
			return
		}
		time.Sleep(step)
	}
	require.FailNow(t, "time passes, and nothing comes of it")
}

// fewer is n, or a tenth of it under the race detector, with which everything takes ten times as long.
func fewer(n int) int {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return n / 10
	}
	return n
}

func awaitClosed(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain: "+what)
	}
}

// onFake runs a test inside a bubble, where time passes only while everybody waits, against a scripted server. The bubble
// fails the test if a goroutine is left.
func onFake(t *testing.T, test func(t *testing.T, server *fakepg.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := fakepg.New()
		t.Cleanup(server.Close)
		test(t, server)
	})
}

// fakeHub makes a hub on a scripted server, stopped when the test has ended.
func fakeHub(t *testing.T, server *fakepg.Server, cfg Config) *Hub {
	t.Helper()
	cfg.ListenConfig = server.Config()
	return hubOf(t, cfg)
}

// realHub makes a hub on a real server, stopped when the test has ended: leaving no goroutine behind.
func realHub(t *testing.T, cfg Config) *Hub {
	t.Helper()
	pgtest.CheckLeaks(t)
	if cfg.Pool == nil && cfg.ListenConfig == nil {
		cfg.Pool = pgtest.Pool(t, pgtest.Database(t))
	}
	return hubOf(t, cfg)
}

func hubOf(t *testing.T, cfg Config) *Hub {
	t.Helper()
	hub, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, hub.Stop(within(t))) })
	return hub
}

func startHub(t *testing.T, hub *Hub) {
	t.Helper()
	require.NoError(t, hub.Start(within(t)))
}

// watch makes a consumer of topics and returns what it sees.
func watch(t *testing.T, hub *Hub, topics ...string) (*witness, *Consumer) {
	t.Helper()
	w := newWitness()
	c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	return w, c
}

// background runs f and returns where its error will be.
func background(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func outcome(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		require.FailNow(t, "the call has not returned")
		return nil
	}
}
