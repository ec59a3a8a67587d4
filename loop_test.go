package pghub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// Stop called by the body of a loop within a handler waits for neither of them.
func TestStopInALoopInAHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		stopped := make(chan error, 1)
		_, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
			if ev.Topic == "a" {
				for range hub.Events(ctx, "b") {
					wait, cancel := context.WithTimeout(ctx, time.Minute)
					stopped <- hub.Stop(wait)
					cancel()
					return
				}
			}
		}, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		server.Notify("a", "e")
		require.NoError(t, <-stopped)
	})
}

// A loop's body in Drain of a consumer, and that one's handler in Stop, do not wait for each other.
func TestDrainInALoop(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, err := New(Config{ListenConfig: server.Config()})
		require.NoError(t, err)
		stopped := make(chan error, 1)
		var both sync.WaitGroup // have their event: else Stop might come before the loop's
		both.Add(2)
		y, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
			if ev.Topic == "y" {
				both.Done()
				both.Wait()
				stopped <- hub.Stop(ctx)
			}
		}, &ConsumerConfig{Topics: []string{"y"}})
		require.NoError(t, err)
		startHub(t, hub)
		drained := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ev := range hub.Events(context.Background(), "l") {
				if ev.Topic == "l" {
					both.Done()
					both.Wait()
					drained <- y.Drain(ctx)
				}
			}
		}()
		synctest.Wait()
		server.Notify("y", "e")
		server.Notify("l", "e")
		time.Sleep(24 * time.Hour)
		require.Len(t, stopped, 1, "Stop")
		require.Len(t, drained, 1, "Drain")
	})
}
