package promises

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// patience is how long a test waits for what must come. A loaded machine makes it no failure.
var patience = time.Minute

func init() {
	flag.DurationVar(&patience, "promises.patience", patience, "how long a test waits for what must come")
}

// stream is a handler that keeps all it gets: events as "topic payload", advisories as "action", with what matters of it.
type stream struct {
	changed chan struct{} // has room for one

	mu    sync.Mutex
	lines []string
	evs   []*pghub.Event
	read  int // by await
}

func newStream() *stream { return &stream{changed: make(chan struct{}, 1)} }

func (s *stream) handle(_ context.Context, ev *pghub.Event) { s.add(lineOf(ev), ev) }

func (s *stream) add(line string, ev *pghub.Event) {
	s.mu.Lock()
	s.lines = append(s.lines, line)
	s.evs = append(s.evs, ev)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func lineOf(ev *pghub.Event) string {
	a := ev.Advisory
	switch {
	case a == nil:
		return ev.Topic + " " + strings.TrimRight(string(ev.Payload), " \t\r\n")
	case a.Action == pghub.ActionSubscribe:
		return "subscribe " + a.Topic
	case a.Action == pghub.ActionLag:
		return fmt.Sprintf("lag %d", a.Dropped)
	}
	return string(a.Action)
}

// next waits for the next event.
func (s *stream) next(t *testing.T) (string, *pghub.Event) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		if s.read < len(s.lines) {
			line, ev := s.lines[s.read], s.evs[s.read]
			s.read++
			s.mu.Unlock()
			return line, ev
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-deadline.C:
			require.FailNow(t, "no event came", "the last of %d: %q", len(s.all()), tail(s.all()))
		}
	}
}

// await skips events up to a line, and returns its event.
func (s *stream) await(t *testing.T, line string) *pghub.Event {
	t.Helper()
	for {
		if next, ev := s.next(t); next == line {
			return ev
		}
	}
}

// expect waits for exactly these lines.
func (s *stream) expect(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if next, _ := s.next(t); next != line {
			require.Equal(t, line, next, "the last are %q", tail(s.all()))
		}
	}
}

func (s *stream) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// on returns the lines of one topic, without its name.
func (s *stream) on(topic string) (payloads []string) {
	for _, line := range s.all() {
		if payload, found := strings.CutPrefix(line, topic+" "); found {
			payloads = append(payloads, payload)
		}
	}
	return payloads
}

func tail(lines []string) []string { return lines[max(0, len(lines)-20):] }

// gate is a handler that lets a stream see an event only when it is open.
type gate struct {
	*stream
	entered chan struct{} // has room for one: an event has come
	open    chan struct{}
}

func newGate() *gate {
	return &gate{newStream(), make(chan struct{}, 1), make(chan struct{})}
}

func (g *gate) handle(ctx context.Context, ev *pghub.Event) {
	if ev.Advisory == nil {
		select {
		case g.entered <- struct{}{}:
		default:
		}
		<-g.open
	}
	g.stream.handle(ctx, ev)
}

// troubles is an OnError that keeps what it is told.
type troubles struct {
	mu      sync.Mutex
	errs    []error
	changed chan struct{} // has room for one
}

func newTroubles() *troubles { return &troubles{changed: make(chan struct{}, 1)} }

func (tr *troubles) note(err error) {
	tr.mu.Lock()
	tr.errs = append(tr.errs, err)
	tr.mu.Unlock()
	select {
	case tr.changed <- struct{}{}:
	default:
	}
}

// await waits for n errors that are like target.
func (tr *troubles) await(t *testing.T, n int, target error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		tr.mu.Lock()
		errs, found := tr.errs, 0
		for _, err := range errs {
			if errors.Is(err, target) {
				found++
			}
		}
		tr.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-tr.changed:
		case <-deadline.C:
			require.FailNow(t, "OnError was not told", "%d times %v, but %v", n, target, errs)
		}
	}
}

// newHub makes a hub, which is stopped when the test has ended.
func newHub(t *testing.T, b Backend, change func(cfg *pghub.Config)) *pghub.Hub {
	t.Helper()
	cfg := b.Config()
	cfg.ReconnectMin, cfg.ReconnectMax = time.Millisecond, 20*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	hub, err := pghub.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, hub.Stop(ctx))
	})
	return hub
}

// startHub makes a hub and starts it.
func startHub(t *testing.T, b Backend, change func(cfg *pghub.Config)) *pghub.Hub {
	t.Helper()
	hub := newHub(t, b, change)
	require.NoError(t, hub.Start(within(t)))
	return hub
}

// consume makes a consumer.
func consume(t *testing.T, hub *pghub.Hub, handler pghub.Handler, cfg *pghub.ConsumerConfig) *pghub.Consumer {
	t.Helper()
	c, err := hub.Consumer(within(t), handler, cfg)
	require.NoError(t, err)
	return c
}

// watch makes a consumer of topics that keeps what it gets.
func watch(t *testing.T, hub *pghub.Hub, topics ...string) *stream {
	t.Helper()
	s := newStream()
	consume(t, hub, s.handle, &pghub.ConsumerConfig{Topics: topics})
	return s
}

// within returns a context that ends when the test's patience does.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// numbers makes messages on one topic, whose only keys are the numbers from first on.
func numbers(topic string, first, n int) []Message {
	messages := make([]Message, n)
	for i := range messages {
		messages[i] = Message{topic, fmt.Sprintf("e%d", first+i)}
	}
	return messages
}

// markers make sure that something has arrived: a consumer of a hub, and how many it was sent.
type markers struct {
	b    Backend
	seen *stream
	sent int
}

func newMarkers(t *testing.T, b Backend, hub *pghub.Hub) *markers {
	t.Helper()
	return &markers{b: b, seen: watch(t, hub, "markers")}
}

// settle waits until the hub has given everything that was published before to all queues. One marker may be in the same
// burst as what came before it; when the next has come, that burst has been dealt with.
func (m *markers) settle(t *testing.T) {
	t.Helper()
	for range 2 {
		m.sent++
		payload := fmt.Sprintf("e%d", m.sent)
		m.b.Publish(Message{"markers", payload})
		m.seen.await(t, "markers "+payload)
	}
}

// done waits for a channel to be closed.
func done(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-c:
	case <-deadline.C:
		require.FailNow(t, "it did not come to an end", what)
	}
}

// answered waits for the answer of a call that was made in the background.
func answered(t *testing.T, c <-chan error, what string) error {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case err := <-c:
		return err
	case <-deadline.C:
		require.FailNow(t, "there is no answer", what)
		return nil
	}
}

// background makes a call in the background.
func background(call func() error) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- call() }()
	return answer
}
