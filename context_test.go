package pghub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// A handler finds its own consumer, from its first event on, and so does Resync. Nobody else does.
func TestConsumerFrom(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		found := make(chan *Consumer, 10)
		c, err := hub.Consumer(t.Context(), func(ctx context.Context, _ *Event) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			found <- ConsumerFrom(ctx)
		}, &ConsumerConfig{Topics: []string{"a"}, ResyncFirst: true, Resync: func(ctx context.Context, _ Gap) error {
			found <- ConsumerFrom(ctx)
			return nil
		}})
		require.NoError(t, err)
		startHub(t, hub)
		for range 3 { // connect, subscribe, Resync
			require.Same(t, c, <-found)
		}
		require.Nil(t, ConsumerFrom(t.Context()))
	})
}

type tenant struct{}

// Handlers' contexts descend from BaseContext: they have its values, and end with it.
func TestBaseContext(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		base, cancel := context.WithCancelCause(context.WithValue(t.Context(), tenant{}, "blue"))
		hub := fakeHub(t, server, Config{BaseContext: base})
		contexts := make(chan context.Context, 10)
		_, err := hub.Consumer(t.Context(), func(ctx context.Context, _ *Event) { contexts <- ctx }, nil)
		require.NoError(t, err)
		startHub(t, hub)
		ctx := <-contexts
		require.Equal(t, "blue", ctx.Value(tenant{}))
		require.NoError(t, ctx.Err())
		cancel(io.EOF)
		require.ErrorIs(t, context.Cause(ctx), io.EOF)
	})
}

// An error that a handler throws can be told from others.
func TestPanicWithAnError(t *testing.T) {
	for name, test := range map[string]struct {
		value any
		is    error
		text  string
	}{
		"an error": {fmt.Errorf("wrapped: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF, "wrapped: unexpected EOF"},
		"a text":   {"oops", ErrPanic, "oops"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newErrorLog()
				hub := unitHub(t, Config{OnError: log.onError})
				c, err := hub.Consumer(t.Context(), func(context.Context, *Event) { panic(test.value) }, &ConsumerConfig{Name: "orders", Topics: []string{"a"}})
				require.NoError(t, err)
				deliveryPut(c, queueRun("a", 1))
				synctest.Wait()
				require.Len(t, log.all(), 1)
				require.ErrorIs(t, log.all()[0], ErrPanic)
				require.ErrorIs(t, log.all()[0], test.is)
				require.ErrorContains(t, log.all()[0], test.text)
				require.ErrorContains(t, log.all()[0], `consumer "orders"`)
				require.NoError(t, c.Close())
			})
		})
	}
}

func TestEventsWithoutTopics(t *testing.T) {
	hub := unitHub(t, Config{})
	var got []*Event
	for ev := range hub.Events(t.Context()) {
		got = append(got, ev)
	}
	require.Len(t, got, 1)
	require.True(t, got[0].Advisory.Final)
	require.ErrorIs(t, got[0].Advisory.Err, ErrTopic)
	require.Empty(t, hub.ConsumerStats())
}

// A supervisory event decodes into nothing: not into a Change either, whose action it would set.
func TestDecodeOfAnAdvisory(t *testing.T) {
	ev := newAdvisory(Advisory{Action: ActionConnect})
	_, err := Decode[Change](ev)
	var undecodable *DecodeError
	require.ErrorAs(t, err, &undecodable)
	require.ErrorIs(t, err, errAdvisory)
	require.ErrorIs(t, ev.Decode(new(any)), errAdvisory)
}

// Handlers that return together, thousands of them, do not meet at the lock that the router needs.
func TestDeliveryReleasedTogether(t *testing.T) {
	const stuck = 1000
	hub := unitHub(t, Config{})
	release := make(chan struct{})
	var blocked, back sync.WaitGroup
	blocked.Add(stuck)
	back.Add(stuck)
	consumers := make([]*Consumer, stuck)
	for i := range consumers {
		consumers[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
			blocked.Done()
			<-release
			back.Done()
		})
		consumers[i].queue.put(queueRun("a", 1))
	}
	hub.delivery.add(consumers...)
	blocked.Wait()
	d := hub.delivery
	deadline := time.Now().Add(patience)
	for d.mu.Lock(); d.watching; d.mu.Lock() {
		d.mu.Unlock()
		require.False(t, time.Now().After(deadline), "the watch goes on")
		runtime.Gosched()
	}
	last := d.shift.workers // the lock is held from here on, as by the router
	close(release)
	back.Wait()
	// Whoever was of an earlier shift leaves by itself. Only those of the last one, which is small again, want the lock.
	require.LessOrEqual(t, last, runtime.GOMAXPROCS(0))
	for {
		d.lookout.mu.Lock()
		here := 0
		for _, w := range d.lookout.workers {
			if !w.gone.Load() {
				here++
			}
		}
		d.lookout.mu.Unlock()
		if here <= last {
			break
		}
		require.False(t, time.Now().After(deadline), "%d workers wait for the lock", here)
	}
	d.mu.Unlock()
	for _, c := range consumers {
		require.NoError(t, c.Drain(t.Context()))
	}
}

// Topics that come and go while the handler is stuck leave nothing in its queue.
func TestQueueOfAStuckHandlerStaysShort(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "had")
	s.settle()
	for range 100 {
		routerSubscribe(t, c, "a", "b")
		s.settle()
		s.notify("a 1", "had 2", "b 3")
		hub.router.unsubscribe(c, []string{"a", "b"})
		s.settle()
	}
	require.Equal(t, 101, c.queue.ring.n, "one subscribe, and an event in each round")
	require.Equal(t, 100, c.Stats().Queued)
	require.NoError(t, errors.Join(c.Close()))
}
