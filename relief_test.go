package pghub

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// A queue asks for a moment when it is half full, then at each further eighth, and again from the start once it has been
// worked off to a quarter.
func TestQueueRelief(t *testing.T) {
	q := newQueue(1600, DropOldest)
	put := func(events int) <-chan struct{} {
		_, _, relief := q.put(queueRun("a", make([]int, events)...))
		return relief
	}
	take := func(events int) {
		for got := 0; got < events; {
			hand := q.take()
			q.delivered.Add(uint64(len(hand)))
			got += len(hand)
		}
	}
	require.Nil(t, put(800))
	half := put(1)
	require.NotNil(t, half)
	require.Nil(t, put(199))
	require.Equal(t, half, put(1), "nobody has come yet")
	require.Empty(t, half)
	q.take()
	_, open := <-half
	require.False(t, open, "somebody has come for more")

	take(500)
	require.Nil(t, put(499), "as full as it was")
	take(1000)
	require.Nil(t, put(100))
	require.NotNil(t, put(800), "it has been nearly empty")

	small := newQueue(crowd, DropOldest)
	_, _, relief := small.put(queueRun("a", make([]int, 2*crowd)...))
	require.Nil(t, relief, "a short queue is full in no time")
}

// floodHub has a consumer of "a" with a handler, and starts.
func floodHub(t *testing.T, hub *Hub, handler Handler) *Consumer {
	t.Helper()
	c, err := hub.Consumer(context.Background(), handler, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	startHub(t, hub)
	return c
}

// floodOf is what a server sends of so many events.
func floodOf(t *testing.T, topic string, events int) (frames []byte) {
	t.Helper()
	for i := range events {
		var err error
		frames, err = (&pgproto3.NotificationResponse{PID: 7, Channel: topic, Payload: fmt.Sprint("e", i)}).Encode(frames)
		require.NoError(t, err)
	}
	return frames
}

// A handler that keeps up loses nothing in a burst of many times its queue, with a single processor either.
func TestFloodWithOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const events = 20 * defaultQueueSize
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		var seen atomic.Int64
		c := floodHub(t, hub, func(_ context.Context, ev *Event) {
			if ev.Advisory == nil {
				seen.Add(1)
			}
		})
		server.SendRaw(floodOf(t, "a", events))
		synctest.Wait()
		require.Zero(t, c.Stats().Dropped)
		require.EqualValues(t, events, seen.Load())
	})
}

// The same on a server.
func TestFloodOnServer(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const events = 10 * defaultQueueSize
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub := realHub(t, Config{Pool: pool})
	done := make(chan struct{})
	seen := 0
	c := floodHub(t, hub, func(_ context.Context, ev *Event) {
		if ev.Advisory == nil {
			if seen++; seen == events {
				close(done)
			}
		}
	})
	_, err := pool.Exec(within(t), "SELECT count(pg_notify('a', 'e' || i)) FROM generate_series(1, $1::int) AS i", events)
	require.NoError(t, err)
	select {
	case <-done:
	case <-within(t).Done():
		require.Fail(t, "events are missing", "%+v", c.Stats())
	}
	require.Zero(t, c.Stats().Dropped)
}

// A handler that is stuck makes the hub wait for it no longer than a moment, a few times in all.
func TestFloodWithStuckHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		release := make(chan struct{})
		c := floodHub(t, hub, func(_ context.Context, ev *Event) {
			if ev.Advisory == nil {
				<-release
			}
		})
		defer close(release)
		w, _ := watch(t, hub, "b")
		w.expect(t, lineSubscribe("b"))
		for i, want := range []time.Duration{4 * reliefWait, 0} {
			start := time.Now()
			server.SendRaw(floodOf(t, "a", 2*defaultQueueSize))
			server.Notify("b", fmt.Sprint("e", i))
			w.expect(t, fmt.Sprint("b e", i))
			require.Equal(t, want, time.Since(start))
		}
		require.NotZero(t, c.Stats().Dropped)
	})
}
