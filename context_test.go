package pghub

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// countedContext is a context of a kind that package context does not know: a child of it needs a goroutine until it ends.
type countedContext struct {
	context.Context
	done chan struct{}
}

func (c *countedContext) Done() <-chan struct{} { return c.done }

func (c *countedContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func TestNoContextIsLeftAfterStop(t *testing.T) {
	base := &countedContext{context.Background(), make(chan struct{})}
	defer close(base.done)
	hub := unitHub(t, Config{BaseContext: base})
	require.NoError(t, hub.Stop(within(t)))
	before := runtime.NumGoroutine()
	for range 100 {
		_, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
		require.ErrorIs(t, err, ErrStopped)
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+50 }, patience, time.Millisecond)
}

// A nil context leaves no consumer behind.
func TestNilContextLeavesNothing(t *testing.T) {
	var none context.Context
	for name, use := range map[string]func(hub *Hub){
		"loop": func(hub *Hub) {
			for range hub.Events(none, "a") {
				break
			}
		},
		"consumer": func(hub *Hub) { _, _ = hub.Consumer(none, func(context.Context, *Event) {}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			hub := unitHub(t, Config{})
			func() {
				defer func() { _ = recover() }()
				use(hub)
			}()
			n := hub.Stats().Consumers
			err := outcome(t, background(func() error { return hub.Stop(within(t)) }))
			require.NoError(t, err)
			require.Zero(t, n)
		})
	}
}

// A Resync that is given up because BaseContext has ended is reported.
func TestBaseContextEnds(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		base, end := context.WithCancel(context.Background())
		log := newErrorLog()
		hub := fakeHub(t, server, Config{BaseContext: base, OnError: log.onError})
		l := newLoader()
		_, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Topics: []string{"a"}, Resync: l.resync, ResyncFirst: true})
		require.NoError(t, err)
		end()
		startHub(t, hub)
		server.Notify("a", "e1")
		synctest.Wait()
		require.Contains(t, l.lines(), "a e1")
		require.NotContains(t, l.lines(), lineFirstLoad)
		require.Len(t, log.all(), 1)
		require.ErrorContains(t, log.all()[0], "BaseContext has ended")
	})
}
