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

// A queue presses the brake when it is half full, then at each further eighth, and again from the start once it has been
// worked off to a quarter.
func TestQueuePressesBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b brake
		q := newQueue(1600, DropOldest, &b)
		put := func(events int) { q.put(0, queueRun("a", make([]int, events)...)) }
		take := func(events int) {
			for range events {
				require.NotNil(t, q.next())
				q.done()
			}
		}
		pauses := func(want time.Duration, why string) {
			t.Helper()
			start := time.Now()
			b.pause()
			require.Equal(t, want, time.Since(start), why)
		}
		put(800)
		pauses(0, "half full")
		put(1)
		pauses(longestPause, "more than half full, and nobody comes")
		pauses(0, "once is enough")
		put(199)
		pauses(0, "not an eighth more")
		put(1)
		take(1)
		pauses(0, "somebody has come for events")

		put(250)
		go func() {
			time.Sleep(longestPause / 2)
			take(500)
		}()
		pauses(longestPause/2, "somebody comes")
		synctest.Wait()
		put(300)
		pauses(0, "as full as it was")
		for q.next() != nil {
			q.done()
		}
		put(100)
		pauses(0, "nearly empty")
		put(800)
		pauses(longestPause, "it has been nearly empty")

		small := newQueue(crowd, DropOldest, &b)
		small.put(0, queueRun("a", make([]int, 2*crowd)...))
		pauses(0, "a short queue is full in no time")
	})
}

// More may follow a burst, and its consumers are woken with the last one; but not while a queue fills up.
func TestABurstThatPressesWakes(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{QueueSize: 4 * crowd})
		var handled atomic.Int64
		floodHub(t, hub, func(_ context.Context, ev *Event) {
			if ev.Advisory == nil {
				handled.Add(1)
			}
		})
		synctest.Wait()
		events := func(n int) (words [][2]string) {
			for range n {
				words = append(words, [2]string{"a", "e"})
			}
			return words
		}
		hub.router.Burst(burstOf(events(10)...), true)
		synctest.Wait()
		require.Zero(t, handled.Load(), "the rest of what the server sends follows at once")
		hub.router.Burst(burstOf(events(3*crowd)...), true)
		synctest.Wait()
		require.EqualValues(t, 10+3*crowd, handled.Load())
	})
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

// withoutLoss has flood come to a handler that keeps up, until none of its events is dropped: the first time, but where
// the machine takes the only processor away from the worker at the wrong moment.
func withoutLoss(t *testing.T, flood func() (dropped uint64)) {
	t.Helper()
	const attempts = 10
	for attempt := 1; ; attempt++ {
		dropped := flood()
		if dropped == 0 {
			return
		}
		t.Logf("%d events were dropped", dropped)
		require.Less(t, attempt, attempts, "events are dropped each time")
	}
}

// A handler that keeps up loses nothing in a burst of many times its queue, with a single processor either.
func TestFloodWithOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const events = 20 * defaultQueueSize
	withoutLoss(t, func() (dropped uint64) {
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
			dropped = c.Stats().Dropped
			require.EqualValues(t, events, uint64(seen.Load())+dropped)
		})
		return dropped
	})
}

// The same on a server.
func TestFloodOnServer(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const events = 10 * defaultQueueSize
	pool := pgtest.Pool(t, pgtest.Database(t))
	withoutLoss(t, func() uint64 {
		hub := realHub(t, Config{Pool: pool})
		var seen atomic.Uint64
		c := floodHub(t, hub, func(_ context.Context, ev *Event) {
			if ev.Advisory == nil {
				seen.Add(1)
			}
		})
		_, err := pool.Exec(within(t), "SELECT count(pg_notify('a', 'e' || i)) FROM generate_series(1, $1::int) AS i", events)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return seen.Load()+c.Stats().Dropped == events }, patience, time.Millisecond, "every event comes, or is counted")
		require.NoError(t, hub.Stop(within(t)))
		return c.Stats().Dropped
	})
}

// A handler that is stuck makes the hub wait for it no longer than a moment, a few times in all. The fake server sends as
// fast as its client reads, so that time passes in pauses only: there is a worker for the other consumer, too.
func TestFloodWithStuckHandler(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(before, 2))
	defer runtime.GOMAXPROCS(before)
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
		for i, most := range []time.Duration{4 * longestPause, 0} {
			start := time.Now()
			server.SendRaw(floodOf(t, "a", 2*defaultQueueSize))
			server.Notify("b", fmt.Sprint("e", i))
			w.expect(t, fmt.Sprint("b e", i))
			require.LessOrEqual(t, time.Since(start), most)
		}
		require.NotZero(t, c.Stats().Dropped)
	})
}
