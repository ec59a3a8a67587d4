package pghub

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// A loop that is left with events in hand, or in its queue, leaves nothing behind that counts as waiting.
func TestStatsOfALoopThatWasLeft(t *testing.T) {
	hub := unitHub(t, Config{})
	c := unitConsumer(t, hub, ConsumerConfig{})
	c.queue.put(0, queueRun("a", 1, 2, 3), queueRun("b", 4))
	c.iterate(t.Context(), func(*Event) bool { return false })
	require.Zero(t, hub.Stats().Queued)
	require.Zero(t, c.Stats().Queued)
	require.Equal(t, uint64(1), hub.Stats().Delivered)
	awaitClosed(t, c.Done(), "the end of the consumer")
}

// What waits is the sum over all consumers.
func TestStatsSumWhatWaits(t *testing.T) {
	hub := unitHub(t, Config{})
	for range 3 {
		unitConsumer(t, hub, ConsumerConfig{}).queue.put(0, queueRun("a", 1, 2))
	}
	require.Equal(t, 6, hub.Stats().Queued)
}

// Counters never fall, while consumers come and go.
func TestStatsNeverFall(t *testing.T) {
	hub := unitHub(t, Config{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range fewer(2000) {
				c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				deliveryPut(c, queueRun("a", 1, 2, 3))
				if err := c.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var last Stats
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		st := hub.Stats()
		require.GreaterOrEqual(t, st.Delivered, last.Delivered)
		last = st
	}
	require.Equal(t, uint64(4*fewer(2000)*4), last.Delivered, "three events and a close each")
	require.Zero(t, last.Consumers)
}

// State and error go into JSON as text.
func TestStatsAsJSON(t *testing.T) {
	st := Stats{State: StateWaiting, Since: time.Unix(0, 0).UTC(), Received: 7, LastError: errors.New("connection refused")}
	b, err := json.Marshal(st)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, "waiting", got["State"])
	require.Equal(t, "connection refused", got["LastError"])
	require.EqualValues(t, 7, got["Received"])
	b, err = json.Marshal(Stats{})
	require.NoError(t, err)
	require.NotContains(t, string(b), "LastError")
}

func TestConsumerStatsByName(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		onEvent(t, hub, "b", func(context.Context) {})
		a := onEvent(t, hub, "a", func(context.Context) {})
		require.NoError(t, a.Subscribe(t.Context(), "a2"))
		server.Notify("b", "e")
		server.Notify("b", "e")
		w, _ := watch(t, hub, "b")
		server.Notify("b", "e")
		w.await(t, "b e")
		passing(t, time.Millisecond, func() bool { return hub.Stats().Queued == 0 })
		stats := hub.ConsumerStats()
		require.Len(t, stats, 3)
		require.Equal(t, []string{"", "a", "b"}, []string{stats[0].Name, stats[1].Name, stats[2].Name})
		require.Equal(t, []string{"a", "a2"}, stats[1].Topics)
		require.Equal(t, uint64(1+3), stats[2].Delivered)
		require.Equal(t, stats[1], a.Stats())
	})
}

// Server and PID are those of a connection that listens, and not of one that is to.
func TestStatsNameTheServerWhileListening(t *testing.T) {
	hub := unitHub(t, Config{PollOnly: true})
	hub.supervisor.hold(silence{})
	for state, server := range map[State]string{StateConnecting: "", StateListening: "nobody", StateWaiting: ""} {
		hub.supervisor.enter(state, nil)
		require.Equal(t, server, hub.Stats().Server, "%v", state)
	}
}
