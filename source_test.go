package pghub

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/source"
)

// memorySource is a source that has nothing to do with PostgreSQL: what the seam asks for is all that it knows.
type memorySource struct {
	mu       sync.Mutex
	sessions []*memorySession
	refuse   map[string]error
}

func (m *memorySource) Open(ctx context.Context) (source.Session, error) {
	s := &memorySession{source: m, wake: make(chan struct{}, 1), feed: make(chan []source.Message), lost: make(chan error, 1), topics: make(map[string]bool), began: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions = append(m.sessions, s)
	return s, ctx.Err()
}

func (m *memorySource) session() *memorySession {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[len(m.sessions)-1]
}

type memorySession struct {
	source *memorySource
	wake   chan struct{}
	feed   chan []source.Message
	lost   chan error
	topics map[string]bool // owned by Run
	began  time.Time
}

func (s *memorySession) Run(ctx context.Context, sink source.Sink) error {
	sink.Attach(s.wake)
	for {
		changes, unannounced := sink.Changes()
		for _, change := range changes { // each by itself
			refusal := s.source.refuse[change.Topic]
			if refusal == nil {
				s.topics[change.Topic] = change.Listen
			}
			if err := sink.Acknowledge([]source.Change{change}, refusal); err != nil {
				return err
			}
		}
		if unannounced {
			if err := sink.Acknowledge(nil, nil); err != nil {
				return err
			}
		}
		select {
		case <-s.wake:
		case messages := <-s.feed:
			var wanted []source.Message
			for _, m := range messages {
				if s.topics[string(m.Topic)] {
					wanted = append(wanted, m)
				}
			}
			sink.Burst(wanted, false)
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ErrStopped
		}
	}
}

func (s *memorySession) Barrier(context.Context) {}

func (s *memorySession) LastAlive() time.Time { return s.began }

func (s *memorySession) Peer() source.Peer {
	return source.Peer{Server: "memory", PID: 7, Version: "1"}
}

func (s *memorySession) send(words ...string) {
	var burst []source.Message
	for _, w := range words {
		burst = append(burst, codecNotification("a", w))
	}
	s.feed <- burst
}

// A hub on another source than a listener connection behaves as on one.
func TestAnotherSource(t *testing.T) {
	m := &memorySource{refuse: map[string]error{"bad": errors.New("not this one")}}
	hub := unitHub(t, Config{ReconnectMin: time.Millisecond, ReconnectMax: time.Millisecond})
	hub.supervisor.source = m
	w, c := watch(t, hub, "a")
	startHub(t, hub)
	w.expect(t, lineConnect, lineSubscribe("a"))
	require.Equal(t, "memory", hub.Stats().Server)
	m.session().send("e1", "e2")
	w.expect(t, "a e1", "a e2")
	require.NoError(t, c.Subscribe(within(t), "b"))
	w.expect(t, lineSubscribe("b"))
	var refusal *ListenError
	require.ErrorAs(t, c.Subscribe(within(t), "bad"), &refusal)
	require.NoError(t, c.Unsubscribe(within(t), "b"))
	require.Equal(t, []string{"a"}, c.Topics())

	m.session().lost <- io.ErrUnexpectedEOF
	lost := w.take(t)
	require.Equal(t, lineDisconnect, lineOf(lost))
	require.ErrorIs(t, lost.Advisory.Err, io.ErrUnexpectedEOF)
	w.expect(t, lineReconnect)
	m.session().send("e3")
	w.expect(t, "a e3")
	require.NoError(t, hub.Stop(within(t)))
	w.expect(t, lineStop)
}
