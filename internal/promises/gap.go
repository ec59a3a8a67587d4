package promises

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Events are missing nowhere but between disconnect and reconnect, where none comes; and none comes twice or late.
func gapsAreAnnounced(t *testing.T, b Backend) {
	const losses = 5
	hub := startHub(t, b, nil)
	streams := []*stream{watch(t, hub, "a", "b"), watch(t, hub, "b", "a")}
	idle := watch(t, hub)
	var others []string // so many that the hub needs several statements to listen to all, and events come in between
	for i := range 2000 {
		others = append(others, fmt.Sprint("other", i))
	}
	watch(t, hub, others...)

	stop, sent := make(chan struct{}), 0
	publishing := background(func() error {
		for ; ; sent++ {
			b.Publish(numbers([]string{"a", "b"}[sent%2], sent, 1)...)
			select {
			case <-stop:
				return nil
			case <-time.After(100 * time.Microsecond): // else there is no time in a bubble
			}
		}
	})
	for range losses {
		streams[0].await(t, "b "+latest(t, streams[0]))
		b.Disconnect()
		idle.expect(t, "disconnect", "reconnect")
	}
	close(stop)
	require.NoError(t, answered(t, publishing, "publishing"))
	b.Publish(Message{"a", "e:0"})
	for _, s := range streams {
		s.await(t, "a e:0")
		checkGaps(t, s, losses)
	}
	require.Len(t, idle.all(), 2*losses)
}

// latest waits for one more event on topic b, and returns its payload.
func latest(t *testing.T, s *stream) string {
	t.Helper()
	for {
		line, _ := s.next(t)
		if payload, found := strings.CutPrefix(line, "b "); found {
			s.mu.Lock()
			s.read--
			s.mu.Unlock()
			return payload
		}
	}
}

// checkGaps looks for holes in the numbers of a stream's events.
func checkGaps(t *testing.T, s *stream, losses int) {
	t.Helper()
	connected, last, seen := true, -1, 0
	mayMiss := false // next
	for i, line := range s.all() {
		ev := s.evs[i]
		switch {
		case line == "disconnect":
			require.True(t, connected, "line %d", i)
			require.Error(t, ev.Advisory.Err)
			connected = false
		case line == "reconnect":
			require.False(t, connected, "line %d", i)
			gap := ev.Advisory.Gap
			require.Error(t, gap.Err)
			require.False(t, gap.Since.IsZero())
			require.False(t, gap.Until.Before(gap.Since))
			connected, mayMiss = true, true
			seen++
		case ev.Advisory != nil, line == "a e:0":
		default:
			require.True(t, connected, "an event within a gap, line %d", i)
			var n int
			_, err := fmt.Sscanf(line[2:], "e%d", &n)
			require.NoError(t, err, line)
			require.Greater(t, n, last, "line %d", i)
			if !mayMiss {
				require.Equal(t, last+1, n, "a silent gap before line %d", i)
			}
			last, mayMiss = n, false
		}
	}
	require.Equal(t, losses, seen)
}

// What is committed after somebody has seen reconnect reaches everybody, on all topics. There are so many of them that
// the hub cannot ask for all in one go.
func reconnectListensToAll(t *testing.T, b Backend) {
	const topics, each = 2500, 100
	hub := startHub(t, b, nil)
	var names []string
	var messages []Message
	for i := range topics {
		names = append(names, fmt.Sprint("topic", i))
		messages = append(messages, Message{names[i], "e1"})
	}
	all := watch(t, hub, names...)
	var single []*stream
	for i := 0; i < topics; i += each {
		single = append(single, watch(t, hub, names[i]))
	}
	var once sync.Once
	consume(t, hub, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil && ev.Advisory.Action == pghub.ActionReconnect {
			once.Do(func() { b.Publish(messages...) })
		}
	}, nil)
	b.Disconnect()
	all.await(t, "reconnect")
	for i, name := range names {
		all.expect(t, name+" e1")
		if i%each == 0 {
			single[i/each].expect(t, "subscribe "+name, "disconnect", "reconnect", name+" e1")
		}
	}
}

// Resync runs behind the advisory and before the first event after it, again and again until it succeeds.
func resyncComesFirst(t *testing.T, b Backend) {
	heard := newTroubles()
	hub := startHub(t, b, func(cfg *pghub.Config) { cfg.OnError = heard.note })
	refused := errors.New("not yet")
	seen, attempts := newStream(), 0
	consume(t, hub, seen.handle, &pghub.ConsumerConfig{Topics: []string{"a"}, Resync: func(_ context.Context, gap pghub.Gap) error {
		attempts++
		seen.add(fmt.Sprintf("resync %v", gap.Err != nil && !gap.Until.IsZero()), nil)
		if attempts == 1 {
			b.Publish(Message{"a", "e2"}) // waits for the next attempt
		}
		if attempts < 3 {
			return refused
		}
		return nil
	}})
	b.Publish(Message{"a", "e1"})
	seen.expect(t, "subscribe a", "a e1")
	b.Disconnect()
	seen.expect(t, "disconnect", "reconnect", "resync true", "resync true", "resync true", "a e2")
	heard.await(t, 2, refused)
}

// A lag advisory stands where events are missing, and says exactly how many.
func lagIsExact(overflow pghub.Overflow) func(t *testing.T, b Backend) {
	return func(t *testing.T, b Backend) {
		const size, events = 20, 2000
		heard := newTroubles()
		hub := startHub(t, b, func(cfg *pghub.Config) { cfg.OnError = heard.note })
		m := newMarkers(t, b, hub)
		slow, resyncs := newGate(), uint64(0)
		c := consume(t, hub, slow.handle, &pghub.ConsumerConfig{
			Topics: []string{"a"}, QueueSize: size, Overflow: overflow,
			Resync: func(_ context.Context, gap pghub.Gap) error {
				resyncs += gap.Dropped
				return nil
			},
		})
		b.Publish(numbers("a", 0, 1)...)
		done(t, slow.entered, "the first event")
		b.Publish(numbers("a", 1, events-1)...)
		m.settle(t)
		close(slow.open)
		slow.expect(t, "subscribe a")
		// One more that finds room behind the lag.
		sent := events
		for last := ""; last != fmt.Sprintf("a e%d", sent-1); {
			b.Publish(numbers("a", sent, 1)...)
			sent++
			m.settle(t)
			if lines := slow.all(); len(lines) > 0 {
				last = lines[len(lines)-1]
			}
		}

		next, dropped := 0, 0
		for _, line := range slow.all()[1:] {
			var n int
			if _, err := fmt.Sscanf(line, "lag %d", &n); err == nil {
				require.Positive(t, n)
				next += n
				dropped += n
				continue
			}
			_, err := fmt.Sscanf(line, "a e%d", &n)
			require.NoError(t, err, line)
			require.Equal(t, next, n, "a hole that no lag announced")
			next = n + 1
			if overflow == pghub.DropNewest && n < size {
				require.Zero(t, dropped, "the oldest stay")
			}
			if overflow == pghub.DropOldest && n > 2*size {
				require.GreaterOrEqual(t, n, events-size-1, "the newest stay")
			}
		}
		require.Equal(t, sent, next)
		require.Greater(t, dropped, events/2)
		require.Equal(t, uint64(dropped), c.Stats().Dropped)
		require.Equal(t, uint64(dropped), resyncs)
		heard.await(t, 1, pghub.ErrSlowConsumer)
	}
}

// A consumer that is to be closed rather than to miss events is closed, with the reason, and no other is.
func slowConsumerIsClosed(t *testing.T, b Backend) {
	heard := newTroubles()
	hub := startHub(t, b, func(cfg *pghub.Config) { cfg.OnError = heard.note })
	m := newMarkers(t, b, hub)
	slow, quick := newGate(), watch(t, hub, "a")
	c := consume(t, hub, slow.handle, &pghub.ConsumerConfig{Topics: []string{"a"}, QueueSize: 5, Overflow: pghub.CloseConsumer})
	b.Publish(numbers("a", 0, 1)...)
	done(t, slow.entered, "the first event")
	b.Publish(numbers("a", 1, 500)...)
	m.settle(t)
	close(slow.open)
	done(t, c.Done(), "the slow consumer")
	lines := slow.all()
	require.Equal(t, "close", lines[len(lines)-1])
	slow.mu.Lock()
	last := slow.evs[len(slow.evs)-1].Advisory
	slow.mu.Unlock()
	require.True(t, last.Final)
	require.ErrorIs(t, last.Err, pghub.ErrSlowConsumer)
	for i, payload := range slow.on("a") {
		require.Equal(t, fmt.Sprintf("e%d", i), payload)
	}
	heard.await(t, 1, pghub.ErrSlowConsumer)
	require.ErrorIs(t, c.Subscribe(within(t), "b"), pghub.ErrClosed)
	require.Empty(t, c.Topics())
	quick.await(t, "a e500")
	require.Len(t, quick.on("a"), 501)
}
