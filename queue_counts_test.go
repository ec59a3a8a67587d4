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

// A close by overflow does not count what was unsubscribed before.
func TestQueueCloseCountsNothingRevoked(t *testing.T) {
	var b brake
	q := newQueue(128, CloseConsumer, &b)
	q.put(0, queueRun("a", 1, 2))
	require.NotNil(t, q.next())
	q.revoke("a")
	numbers := make([]int, 129)
	q.put(0, queueRun("b", numbers...))
	q.done()
	ev := q.next()
	require.Equal(t, ActionClose, ev.Advisory.Action)
	require.EqualValues(t, 129, ev.Advisory.Dropped)
}
