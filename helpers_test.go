package pghub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/source"
)

// unitHub returns a hub that connects to nothing: tests of its parts drive its router themselves. Its consumers are
// closed when the test has ended.
func unitHub(t testing.TB, cfg Config) *Hub {
	t.Helper()
	if cfg.Pool == nil {
		listen, err := pgx.ParseConfig("host=127.0.0.1 port=1 user=nobody")
		require.NoError(t, err)
		cfg.ListenConfig = listen
	}
	hub, err := New(cfg)
	require.NoError(t, err)
	return hub
}

// unitPool returns a pool that nobody uses.
func unitPool() *pgxpool.Pool { return new(pgxpool.Pool) }

// unitConsumer makes a consumer that nobody delivers to: tests take its events themselves.
func unitConsumer(t *testing.T, hub *Hub, cfg ConsumerConfig) *Consumer {
	t.Helper()
	full, err := cfg.withDefaults(&hub.cfg)
	require.NoError(t, err)
	c := newConsumer(hub, nil, full)
	c.loop = &loop{wake: make(chan struct{}, 1)}
	require.NoError(t, hub.roster.enter(c))
	require.NoError(t, hub.router.add(c))
	return c
}

// unitTake takes all that waits for such a consumer, as words.
func unitTake(c *Consumer) []string { return eventWords(unitTakeEvents(c)) }

func eventWords(events []*Event) (words []string) {
	for _, ev := range events {
		words = append(words, eventWord(ev))
	}
	return words
}

func unitTakeEvents(c *Consumer) (events []*Event) {
	for ev := c.queue.next(); ev != nil; ev = c.queue.next() {
		events = append(events, ev)
		c.queue.done()
	}
	return events
}

// eventWord is a short form of an event: `topic payload`, `subscribe topic`, `lag 3`, `connect`.
func eventWord(ev *Event) string {
	a := ev.Advisory
	switch {
	case a == nil:
		return strings.TrimSpace(ev.Topic + " " + string(ev.Payload))
	case a.Action == ActionSubscribe:
		return "subscribe " + a.Topic
	case a.Action == ActionLag:
		return fmt.Sprint("lag ", a.Dropped)
	}
	return string(a.Action)
}

// unitServer is the server's side of a listener connection as the router sees it: what session and PostgreSQL do
// together, without either.
type unitServer struct {
	router    *router
	wake      chan struct{}
	listening map[string]bool   // what it has acknowledged
	refuses   map[string]bool   // names that it refuses
	asked     [][]source.Change // statements under way
	said      []string          // all of them, as text
	announced int               // sessions that came to listen
	startErr  error
}

func newUnitServer(hub *Hub) *unitServer {
	s := &unitServer{router: hub.router, refuses: make(map[string]bool)}
	s.router.listening = func() { s.announced++ }
	return s
}

// attach begins a session.
func (s *unitServer) attach() {
	s.wake, s.listening, s.asked = make(chan struct{}, 1), make(map[string]bool), nil
	s.router.Attach(s.wake)
}

// ask does what a session does when it is free to write: one statement for all changes, but for names that were refused
// together with others, and an empty one where the router waits for nothing but an answer.
func (s *unitServer) ask() bool {
	changes, probe := s.router.Changes()
	var together []source.Change
	for _, c := range changes {
		if c.Alone {
			s.asked = append(s.asked, []source.Change{c})
		} else {
			together = append(together, c)
		}
	}
	if len(together) > 0 || probe {
		s.asked = append(s.asked, together)
	}
	for _, st := range s.asked {
		s.said = append(s.said, newStatement(st...).sql)
	}
	return len(s.asked) > 0
}

// answer answers everything under way. Like PostgreSQL it takes a statement wholly or not at all.
func (s *unitServer) answer() {
	asked := s.asked
	s.asked = nil
	for _, st := range asked {
		var cause error
		for _, c := range st {
			if c.Listen && s.refuses[c.Topic] {
				cause = fmt.Errorf("no %s", c.Topic)
			}
		}
		if cause == nil {
			for _, c := range st {
				if c.Listen {
					s.listening[c.Topic] = true
				} else {
					delete(s.listening, c.Topic)
				}
			}
		}
		if err := s.router.Acknowledge(st, cause); err != nil {
			s.startErr = err
		}
	}
}

// settle goes on until there is nothing to change.
func (s *unitServer) settle() {
	for range 100 {
		if !s.ask() {
			return
		}
		s.answer()
	}
	panic("the router asks for changes without end")
}

// notify sends a burst of notifications, given as `topic payload`, as far as the server listens to them.
func (s *unitServer) notify(words ...string) {
	var burst []source.Message
	for _, w := range words {
		topic, payload, _ := strings.Cut(w, " ")
		if s.listening[topic] {
			burst = append(burst, codecNotification(topic, payload))
		}
	}
	s.router.route(burst, false, false)
}

func (s *unitServer) detach(cause error) {
	s.router.detach(time.Now(), cause)
	s.listening, s.asked = nil, nil
}

// eventStream collects what a handler gets.
type eventStream struct {
	mu     sync.Mutex
	events []*Event
	came   chan struct{} // has room for one
	read   int           // by await
}

func newEventStream() *eventStream { return &eventStream{came: make(chan struct{}, 1)} }

func (s *eventStream) handle(_ context.Context, ev *Event) {
	s.mu.Lock()
	s.events = append(s.events, ev)
	s.mu.Unlock()
	select {
	case s.came <- struct{}{}:
	default:
	}
}

// await returns the next event that match wants and passes over those before it.
func (s *eventStream) await(t *testing.T, match func(*Event) bool) *Event {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		for s.read < len(s.events) {
			ev := s.events[s.read]
			s.read++
			if match(ev) {
				s.mu.Unlock()
				return ev
			}
		}
		s.mu.Unlock()
		select {
		case <-s.came:
		case <-deadline:
			require.FailNow(t, "the event did not come", "got %q", s.words())
		}
	}
}

func (s *eventStream) words() (words []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.events {
		words = append(words, eventWord(ev))
	}
	return words
}

// liveHub starts a hub on a real server and stops it when the test has ended.
func liveHub(t *testing.T, pool *pgxpool.Pool, cfg Config) (*Hub, *eventStream) {
	t.Helper()
	cfg.Pool = pool
	hub, err := New(cfg)
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, hub.Stop(ctx))
	})
	return hub, newEventStream()
}

func codecNotification(topic, payload string) source.Message {
	return source.Message{Topic: []byte(topic), Payload: []byte(payload), PID: 7}
}

// codecArrival is an event as a codec gets it.
func codecArrival(topic, payload string) *Event {
	return newEvents(topic, []source.Message{codecNotification(topic, payload)})[0]
}

func validUTF8(texts ...string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

func TestMain(m *testing.M) { pgtest.Main(m) }
