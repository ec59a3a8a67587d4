package pghub

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// An event waits for others for as long as Delay, and no longer; enough of them end it.
func TestBatchDelay(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{ProbeInterval: -1}), newBatches()
		c := batchConsumer(t, hub, b, BatchConfig{Max: 3, Delay: time.Minute})
		synctest.Wait()
		require.Equal(t, []string{"connect", "subscribe a"}, b.all(), "supervisory events do not wait")

		began := time.Now()
		server.Notify("a", "e1")
		time.Sleep(59 * time.Second)
		server.Notify("a", "e2")
		synctest.Wait()
		require.Len(t, b.all(), 2)
		require.Equal(t, 2, c.Stats().Queued)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "a e1, a e2", b.all()[2])
		require.Equal(t, time.Minute, time.Since(began))

		for i := range 3 { // enough
			server.Notify("a", fmt.Sprint("e", i))
		}
		<-b.busy
		for i := range 4 { // while the handler is busy
			server.Notify("a", fmt.Sprint("e", 10+i))
		}
		synctest.Wait()
		close(b.release)
		synctest.Wait()
		require.Equal(t, []string{"a e0, a e1, a e2", "a e10, a e11, a e12", "a e13"}, b.all()[3:])
		require.Equal(t, time.Minute, time.Since(began), "none of them has waited")

		server.Notify("a", "e20") // a delay of its own again
		synctest.Wait()
		require.Len(t, b.all(), 6)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, "a e20", b.all()[6])
	})
}

// Who has waited already does not wait once more where a turn ends and another one follows.
func TestBatchDelayIsNotRepeated(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{ProbeInterval: -1}), newBatches()
		c := batchConsumer(t, hub, b, BatchConfig{Max: 2, Delay: time.Hour})
		server.Notify("a", "e0")
		server.Notify("a", "e0")
		<-b.busy
		for range 2*(turnEvents-1) + 1 { // one is left when the turn ends
			server.Notify("a", "e1")
		}
		synctest.Wait()
		close(b.release)
		synctest.Wait()
		require.Zero(t, c.Stats().Queued)
		require.Equal(t, "a e1", b.all()[2+turnEvents])
	})
}

// What waits for Delay is in the queue: it can be unsubscribed and discarded, and the end does not wait for the delay.
func TestBatchDelayEnds(t *testing.T) {
	ends := map[string]struct {
		end  func(*Hub, *Consumer) error
		want []string
	}{
		"unsubscribe": {func(_ *Hub, c *Consumer) error { return c.Unsubscribe(context.Background(), "a") }, nil},
		"close":       {func(_ *Hub, c *Consumer) error { return c.Close() }, []string{"close"}},
		"drain":       {func(_ *Hub, c *Consumer) error { return c.Drain(context.Background()) }, []string{"a e1, a e2", "close"}},
		"stop":        {func(h *Hub, _ *Consumer) error { return h.Stop(context.Background()) }, []string{"a e1, a e2", "stop"}},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub, b := fakeHub(t, server, Config{ProbeInterval: -1}), newBatches()
				c := batchConsumer(t, hub, b, BatchConfig{Delay: time.Hour})
				server.Notify("a", "e1")
				server.Notify("a", "e2")
				synctest.Wait()
				began := time.Now()
				require.NoError(t, end.end(hub, c))
				synctest.Wait()
				require.Zero(t, time.Since(began))
				require.Equal(t, end.want, append([]string(nil), b.all()[2:]...))
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				require.Equal(t, end.want, append([]string(nil), b.all()[2:]...))
			})
		})
	}
}

// An overflow ends the delay: the loss is told at once.
func TestBatchDelayOverflow(t *testing.T) {
	for overflow, want := range map[Overflow][]string{
		DropOldest:    {"lag 1", "a e2, a e3"},
		DropNewest:    {"a e1, a e2", "lag 1"},
		CloseConsumer: {"close"},
	} {
		t.Run(fmt.Sprint(overflow), func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub, b := fakeHub(t, server, Config{ProbeInterval: -1}), newBatches()
				batchConsumer(t, hub, b, BatchConfig{Delay: time.Hour, ConsumerConfig: ConsumerConfig{QueueSize: 2, Overflow: overflow}})
				began := time.Now()
				for i := range 3 {
					server.Notify("a", fmt.Sprint("e", i+1))
					synctest.Wait()
				}
				require.Equal(t, want, b.all()[2:])
				require.Less(t, time.Since(began), time.Minute)
			})
		})
	}
}

// A gap is told at once as well.
func TestBatchDelayGap(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{ProbeInterval: -1}), newBatches()
		batchConsumer(t, hub, b, BatchConfig{Delay: time.Hour})
		server.Notify("a", "e1")
		synctest.Wait()
		server.Kill()
		synctest.Wait()
		require.Equal(t, []string{"a e1", "disconnect"}, b.all()[2:])
	})
}
