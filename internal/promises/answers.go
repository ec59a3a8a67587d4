package promises

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// When Notify has returned nil the event is committed: what another process publishes then comes behind it.
func nilMeansCommitted(t *testing.T, b Backend) {
	hub, other := startHub(t, b, nil), startHub(t, b, nil)
	streams := []*stream{watch(t, hub, "a"), watch(t, other, "a")}
	for i := range 100 {
		require.NoError(t, hub.Notify(within(t), "a", []int64{int64(2 * i)}, nil))
		b.Publish(numbers("a", 2*i+1, 1)...)
	}
	for _, s := range streams {
		s.expect(t, "subscribe a")
		for i := range 200 {
			s.expect(t, fmt.Sprintf("a e%d", i))
		}
	}
}

// Many who publish at the same time each get an answer of their own, and every event is delivered once, equal ones too.
func manyCallers(t *testing.T, b Backend) {
	const callers, each = 32, 30
	hub := startHub(t, b, nil)
	seen := watch(t, hub, "own", "equal", "raw")
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				for what, err := range map[string]error{
					"own":   hub.Notify(context.Background(), "own", []int64{int64(i), int64(n)}, nil),
					"equal": hub.Notify(context.Background(), "equal", nil, "same"),
					"raw":   hub.NotifyPayload(context.Background(), "raw", "e0:[]"),
				} {
					if err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				if err := hub.Notify(context.Background(), "own", nil, strings.Repeat("x", 8000)); !errors.Is(err, pghub.ErrPayloadTooLarge) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.Publish(Message{"own", "e:0"})
	seen.await(t, "own e:0")
	require.Len(t, seen.on("equal"), callers*each)
	require.Len(t, seen.on("raw"), callers*each)
	next := make([]int, callers)
	for _, payload := range seen.on("own") {
		var i, n int
		if payload == "e:0" {
			continue
		}
		_, err := fmt.Sscanf(payload, "e%d,%d", &i, &n)
		require.NoError(t, err)
		require.Equal(t, next[i], n)
		next[i]++
	}
	for _, n := range next {
		require.Equal(t, each, n)
	}
	require.Equal(t, uint64(3*callers*each), hub.Stats().Published)
}

// What cannot be an event is refused at once and by name, and nothing of it is sent.
func invalidIsRefusedByName(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, seen.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	for _, topic := range []string{"", strings.Repeat("x", 64), "nul\x00", "\xff", strings.Repeat("é", 32)} {
		require.ErrorIs(t, hub.Notify(within(t), topic, nil, nil), pghub.ErrTopic, "%q", topic)
		require.ErrorIs(t, hub.NotifyPayload(within(t), topic, "e"), pghub.ErrTopic, "%q", topic)
		require.ErrorIs(t, c.Subscribe(within(t), "b", topic), pghub.ErrTopic, "%q", topic)
		_, err := hub.Consumer(within(t), seen.handle, &pghub.ConsumerConfig{Topics: []string{topic}})
		require.ErrorIs(t, err, pghub.ErrTopic, "%q", topic)
	}
	require.Equal(t, []string{"a"}, c.Topics())
	for _, value := range []any{make(chan int), "\xff", func() {}, []string{"ok", "\xff"}} {
		require.ErrorIs(t, hub.Notify(within(t), "a", nil, value), pghub.ErrValue, "%T", value)
	}
	for _, payload := range []string{"nul\x00", "\xff"} {
		require.ErrorIs(t, hub.NotifyPayload(within(t), "a", payload), pghub.ErrValue, "%q", payload)
	}
	require.ErrorIs(t, hub.NotifyPayload(within(t), "a", "e:"+strings.Repeat("1", 7998)), pghub.ErrPayloadTooLarge)
	require.ErrorIs(t, hub.Notify(within(t), "a", nil, strings.Repeat("é", 4000)), pghub.ErrPayloadTooLarge)
	b.Publish(Message{"a", "e1"})
	seen.expect(t, "subscribe a", "a e1")
}

// Every method has an answer before Start and after Stop.
func answersInEveryState(t *testing.T, b Backend) {
	hub := newHub(t, b, nil)
	seen := newStream()
	require.Equal(t, pghub.StateIdle, hub.State())
	require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), pghub.ErrNotStarted)
	require.ErrorIs(t, hub.NotifyPayload(within(t), "a", ""), pghub.ErrNotStarted)
	c := consume(t, hub, seen.handle, nil)
	require.NoError(t, c.Subscribe(within(t), "a", "b"))
	require.NoError(t, c.Unsubscribe(within(t), "b"))
	require.Equal(t, []string{"a"}, c.Topics())
	closed := consume(t, hub, newStream().handle, nil)
	require.NoError(t, closed.Close())
	done(t, closed.Done(), "a consumer that is closed before Start")
	require.ErrorIs(t, closed.Subscribe(within(t), "a"), pghub.ErrClosed)

	require.NoError(t, hub.Start(within(t)))
	require.ErrorIs(t, hub.Start(within(t)), pghub.ErrStarted)
	require.Equal(t, pghub.StateListening, hub.State())
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, hub.Notify(ended, "a", nil, nil), context.Canceled)
	require.ErrorIs(t, c.Subscribe(ended, "b"), context.Canceled)
	seen.expect(t, "connect", "subscribe a")

	require.NoError(t, hub.Stop(within(t)))
	require.NoError(t, hub.Stop(ended), "it has stopped")
	require.Equal(t, pghub.StateStopped, hub.State())
	require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), pghub.ErrStopped)
	require.ErrorIs(t, hub.NotifyPayload(within(t), "a", ""), pghub.ErrStopped)
	require.ErrorIs(t, hub.Start(within(t)), pghub.ErrStopped)
	_, err := hub.Consumer(within(t), seen.handle, nil)
	require.ErrorIs(t, err, pghub.ErrStopped)
	err = c.Subscribe(within(t), "b")
	require.True(t, errors.Is(err, pghub.ErrStopped) || errors.Is(err, pghub.ErrClosed), "%v", err)
	require.NoError(t, c.Unsubscribe(within(t), "a"))
	require.NoError(t, c.Drain(within(t)))
	require.NoError(t, c.Close())
	seen.expect(t, "stop")
	require.Len(t, seen.all(), 3)

	never := newHub(t, b, nil)
	unborn := watch(t, never, "a")
	require.NoError(t, never.Stop(within(t)))
	unborn.expect(t, "stop")
}

// A Notify whose context ends while the server is silent does not say what became of the event, unless it knows; and it
// is not sent again.
func unknownOutcome(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := watch(t, hub, "a")
	require.NoError(t, hub.Notify(within(t), "a", []int64{0}, nil)) // now there is a connection for it
	b.Stall()
	outcomes := make([]<-chan error, 4)
	for i := range outcomes {
		outcomes[i] = background(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			return hub.Notify(ctx, "a", []int64{int64(1 + i)}, nil)
		})
	}
	unsent := map[string]bool{}
	unknown := 0
	for i, outcome := range outcomes {
		err := answered(t, outcome, "Notify to a silent server")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		switch {
		case errors.Is(err, pghub.ErrUnknownOutcome):
			unknown++
			require.NotErrorIs(t, err, pghub.ErrNotConnected)
		default: // it waited for its turn, or for a connection
			unsent[fmt.Sprintf("e%d", 1+i)] = true
		}
	}
	require.Positive(t, unknown, "one of them was under way")
	b.Resume()
	for i := range 20 { // what was under way has its time to arrive
		require.NoError(t, hub.Notify(within(t), "a", []int64{int64(100 + i)}, nil))
	}
	seen.await(t, "a e119")
	times := map[string]int{}
	for _, payload := range seen.on("a") {
		times[payload]++
		require.False(t, unsent[payload], "%s was said not to be sent", payload)
	}
	for payload, n := range times {
		require.Equal(t, 1, n, payload)
	}
}

// NotifyTx publishes if its transaction commits, and not before; equal events of one transaction are one.
func transactions(t *testing.T, b Backend) {
	pool := b.Config().Pool
	if pool == nil {
		t.Log("this source has no transactions of PostgreSQL")
		return
	}
	hub := startHub(t, b, nil)
	seen := watch(t, hub, "a", "b")
	notify := func(tx pghub.Execer, topic string, key int64) {
		require.NoError(t, hub.NotifyTx(within(t), tx, topic, []int64{key}, nil))
	}
	undone := errors.New("undone")
	require.ErrorIs(t, pgx.BeginFunc(within(t), pool, func(tx pgx.Tx) error {
		notify(tx, "a", 1)
		return undone
	}), undone)
	require.NoError(t, pgx.BeginFunc(within(t), pool, func(tx pgx.Tx) error {
		notify(tx, "a", 2)
		require.ErrorIs(t, hub.NotifyTx(within(t), tx, "", nil, nil), pghub.ErrTopic)
		require.ErrorIs(t, hub.NotifyTx(within(t), tx, "a", nil, make(chan int)), pghub.ErrValue)
		require.ErrorIs(t, pgx.BeginFunc(within(t), tx, func(inner pgx.Tx) error {
			notify(inner, "a", 3)
			return undone
		}), undone)
		notify(tx, "b", 4)
		notify(tx, "a", 2)
		b.Publish(Message{"a", "e5"}) // commits first
		return nil
	}))
	require.NoError(t, pgx.BeginFunc(within(t), pool, func(tx pgx.Tx) error {
		notify(tx, "a", 2)
		return nil
	}))
	first, _ := seen.next(t)
	second, _ := seen.next(t)
	require.ElementsMatch(t, []string{"subscribe a", "subscribe b"}, []string{first, second})
	seen.expect(t, "a e5", "a e2", "b e4", "a e2")
}
