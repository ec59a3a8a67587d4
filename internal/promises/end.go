package promises

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Stop delivers what was committed before it, and ends every stream with stop, once.
func stopDelivers(t *testing.T, b Backend) {
	const events = 300
	hub := startHub(t, b, nil)
	slow, quick, idle := newGate(), watch(t, hub, "a"), watch(t, hub)
	consume(t, hub, slow.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	for i := range events / 2 {
		require.NoError(t, hub.Notify(within(t), "a", []int64{int64(i)}, nil))
	}
	b.Publish(numbers("a", events/2, events/2)...) // and at once
	var stops []<-chan error
	for range 3 {
		stops = append(stops, background(func() error { return hub.Stop(within(t)) }))
	}
	idle.expect(t, "stop")
	close(slow.open)
	for _, stop := range stops {
		require.NoError(t, answered(t, stop, "Stop"))
	}
	require.Equal(t, pghub.StateStopped, hub.State())
	b.Publish(Message{"a", "e:0"})
	for _, s := range []*stream{slow.stream, quick} {
		s.expect(t, "subscribe a")
		for i := range events {
			s.expect(t, fmt.Sprintf("a e%d", i))
		}
		_, last := s.next(t)
		require.Equal(t, pghub.ActionStop, last.Advisory.Action)
		require.True(t, last.Advisory.Final)
		require.Len(t, s.all(), events+2)
	}
}

// When its context ends Stop cuts off what is left.
func stopCutsOff(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen, inside := newStream(), make(chan struct{})
	c := consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
		seen.handle(ctx, ev)
		if ev.Advisory == nil {
			close(inside)
			<-ctx.Done()
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	b.Publish(numbers("a", 0, 10)...)
	done(t, inside, "the first event")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, hub.Stop(ctx), context.DeadlineExceeded)
	done(t, c.Done(), "the consumer that was cut off")
	require.NoError(t, hub.Stop(within(t)))
	seen.expect(t, "subscribe a", "a e0", "stop")
	require.Len(t, seen.all(), 3)
}

// From within a handler Stop, given its context, does not wait for that handler.
func stopInsideAHandler(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen, other := newStream(), watch(t, hub, "a")
	answer := make(chan error, 1)
	consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
		seen.handle(ctx, ev)
		if ev.Advisory == nil {
			answer <- hub.Stop(ctx)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	b.Publish(Message{"a", "e1"})
	require.NoError(t, answered(t, answer, "Stop within a handler"))
	require.NoError(t, hub.Stop(within(t)))
	seen.expect(t, "subscribe a", "a e1", "stop")
	other.expect(t, "subscribe a", "a e1", "stop")
}

// An outage keeps nobody from stopping, and those who wait get their answer.
func stopDuringAnOutage(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, seen.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	b.Down()
	seen.await(t, "disconnect")
	waiting := background(func() error { return c.Subscribe(within(t), "b") })
	require.NoError(t, hub.Stop(within(t)))
	require.Error(t, answered(t, waiting, "Subscribe")) // it may have come before or after Stop
	seen.expect(t, "stop")
	b.Up()
}

// Drain delivers what is queued and nothing that comes later; close is the last event.
func drainDelivers(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	m := newMarkers(t, b, hub)
	slow, other := newGate(), watch(t, hub, "a")
	c := consume(t, hub, slow.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	b.Publish(numbers("a", 0, 50)...)
	m.settle(t)
	brief, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Drain(brief), context.DeadlineExceeded, "it goes on")
	b.Publish(numbers("a", 50, 1)...)
	m.settle(t)
	require.ErrorIs(t, c.Subscribe(within(t), "b"), pghub.ErrClosed)
	second := background(func() error { return c.Drain(within(t)) })
	close(slow.open)
	require.NoError(t, answered(t, second, "Drain"))
	done(t, c.Done(), "a consumer that is drained")
	slow.expect(t, "subscribe a")
	for i := range 50 {
		slow.expect(t, fmt.Sprintf("a e%d", i))
	}
	_, last := slow.next(t)
	require.Equal(t, pghub.ActionClose, last.Advisory.Action)
	require.True(t, last.Advisory.Final)
	require.NoError(t, last.Advisory.Err)
	require.NoError(t, c.Drain(within(t)))
	require.NoError(t, c.Close())
	require.Len(t, slow.all(), 52)
	other.await(t, "a e50")
}

// Close discards what is queued, ends the handler's context and waits for nothing.
func closeDiscards(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	m := newMarkers(t, b, hub)
	slow, other := newGate(), watch(t, hub, "a")
	ended := make(chan struct{})
	c := consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
		slow.handle(ctx, ev)
		if ev.Advisory == nil {
			<-ctx.Done()
			close(ended)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	b.Publish(numbers("a", 0, 50)...)
	done(t, slow.entered, "the first event")
	m.settle(t)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.Empty(t, c.Topics())
	close(slow.open)
	done(t, ended, "the handler's context")
	done(t, c.Done(), "a consumer that is closed")
	require.NoError(t, c.Drain(within(t)))
	slow.expect(t, "subscribe a", "a e0", "close")
	require.Len(t, slow.all(), 3)
	b.Publish(numbers("a", 50, 1)...)
	other.await(t, "a e50")
	require.Len(t, other.on("a"), 51)
}
