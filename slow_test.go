package pghub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type deliverySlow struct {
	slowCall
	at time.Duration // since the test began
}

// deliveryWatch notes who is named as slow.
func deliveryWatch(hub *Hub) func() []deliverySlow {
	var mu sync.Mutex
	var named []deliverySlow
	start := time.Now()
	hub.delivery.lookout.tell = func(call slowCall) {
		mu.Lock()
		defer mu.Unlock()
		named = append(named, deliverySlow{call, time.Since(start)})
	}
	return func() []deliverySlow {
		mu.Lock()
		defer mu.Unlock()
		return named
	}
}

func TestDeliveryNamesSlowHandlerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		named := deliveryWatch(hub)
		done := make(chan struct{})
		c := deliveryConsumer(t, hub, func(_ context.Context, ev *Event) {
			if ev.Topic == "a" {
				time.Sleep(10 * time.Hour)
				close(done)
			}
		})
		deliveryPut(c, queueRun("a", 1))
		deliveryPut(c, queueRun("b", 2, 3))
		<-done
		require.Len(t, named(), 1)
		require.Equal(t, "a", named()[0].topic)
		require.Equal(t, 2, named()[0].waiting)
		require.GreaterOrEqual(t, named()[0].busy, slowHandler)
		require.Less(t, named()[0].at, 2*slowHandler)
		require.NoError(t, c.Close())
	})
}

// A consumer that is slow with every event is named every minute, no more often.
func TestDeliveryNamesSlowHandlerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		named := deliveryWatch(hub)
		var arrived sync.WaitGroup
		arrived.Add(60)
		other := deliveryConsumer(t, hub, func(context.Context, *Event) {})
		c := deliveryConsumer(t, hub, func(context.Context, *Event) {
			deliveryPut(other, queueRun("b", 1)) // others are served meanwhile
			time.Sleep(3 * time.Second)
			arrived.Done()
		})
		for n := range 60 {
			deliveryPut(c, queueRun("a", n))
		}
		arrived.Wait()
		require.Len(t, named(), 3)
		for i, n := range named() {
			require.InDelta(t, time.Duration(i)*slowAgain, n.at, float64(10*time.Second))
		}
	})
}

// A handler is slow if it takes long with one event, not if there are many.
func TestDeliveryNamesNoBusyHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		named := deliveryWatch(hub)
		var arrived sync.WaitGroup
		arrived.Add(100)
		c := deliveryConsumer(t, hub, func(context.Context, *Event) {
			time.Sleep(slowHandler * 9 / 10)
			arrived.Done()
		})
		for n := range 100 {
			deliveryPut(c, queueRun("a", n))
		}
		arrived.Wait()
		require.Empty(t, named())
	})
}

// A Resync that takes long is no handler that is slow.
func TestDeliveryNamesNoResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		named := deliveryWatch(hub)
		ended := make(chan struct{})
		c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{Resync: func(context.Context, Gap) error {
			time.Sleep(5 * slowHandler)
			close(ended)
			return nil
		}})
		require.NoError(t, err)
		c.queue.advise(newResyncMark())
		hub.delivery.add(c)
		<-ended
		require.Empty(t, named())
	})
}

// Workers that end while the lookout is busy are forgotten when it looks next, and then it rests.
func TestLookoutForgetsWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(func(slowCall) {})
		workers := []*worker{l.enter(), l.enter(), l.enter()}
		workers[1].leave()
		l.mu.Lock()
		workers[0].leave()
		workers[2].leave()
		l.mu.Unlock()
		time.Sleep(2 * slowLook)
		synctest.Wait()
		require.Empty(t, l.workers)
		require.False(t, l.looking)
	})
}
