package pghub

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// Delivered counts what handlers saw, and no marks.
func TestDeliveredCountsWhatHandlersSaw(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		var calls atomic.Uint64
		c, err := hub.Consumer(t.Context(), func(context.Context, *Event) { calls.Add(1) },
			&ConsumerConfig{Topics: []string{"a"}, Resync: func(context.Context, Gap) error { return nil }, ResyncFirst: true})
		require.NoError(t, err)
		startHub(t, hub)
		synctest.Wait()
		require.Equal(t, calls.Load(), c.Stats().Delivered)
	})
}

// Queued does not count what closing has made void.
func TestQueueCountsNothingVoidAsWaiting(t *testing.T) {
	var b brake
	q := newQueue(128, DropOldest, &b)
	q.put(0, queueRun("a", 1, 2, 3, 4))
	require.NotNil(t, q.next())
	q.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), true)
	_, _, _, waiting := q.current()
	require.Zero(t, waiting)
}

// A close by overflow counts what was in hand, but not what was unsubscribed before.
func TestQueueCloseCounts(t *testing.T) {
	for _, inHand := range []int{0, 1} {
		var b brake
		q := newQueue(128, CloseConsumer, &b)
		q.put(0, queueRun("a", 1, 2))
		require.NotNil(t, q.next())
		q.revoke("a")
		if inHand > 0 {
			q.done()
			q.put(0, queueRun("b", 1, 2))
			require.Equal(t, "b", q.next().Topic)
		}
		q.put(0, queueRun("b", make([]int, 129)...))
		q.done()
		ev := q.next()
		require.Equal(t, ActionClose, ev.Advisory.Action)
		require.EqualValues(t, 129+inHand, ev.Advisory.Dropped)
	}
}

// What is unsubscribed while a batch is made is not in it, and neither is what stands behind a lag.
func TestQueueHasNoMore(t *testing.T) {
	var b brake
	q := newQueue(256, DropOldest, &b) // four in hand
	q.put(0, queueRun("a", 1, 2))
	require.NotNil(t, q.next())
	q.revoke("a")
	require.Nil(t, q.more())
	q.done()
	require.Nil(t, q.next())

	q.put(0, queueRun("a", 1))
	require.NotNil(t, q.next())
	q.put(0, queueRun("a", make([]int, 257)...))
	require.Nil(t, q.more())
	q.done()
	require.Equal(t, ActionLag, q.next().Advisory.Action)
}
