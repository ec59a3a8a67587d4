package pghub

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// deliveryPut puts events into a consumer's queue and schedules it, as the router does.
func deliveryPut(c *Consumer, runs ...run) {
	if wake, _, _ := c.queue.put(runs...); wake {
		c.hub.delivery.add(c)
	}
}

func deliveryConsumer(t *testing.T, hub *Hub, handler Handler) *Consumer {
	t.Helper()
	c, err := hub.Consumer(context.Background(), handler, nil)
	require.NoError(t, err)
	return c
}

// deliveryIdle says whether nothing of the delivery runs, now or later.
func deliveryIdle(d *delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.workers) == 0 && d.stuck == 0 && d.ready.len() == 0 && d.pace == 0
}

// Handlers that block for good cost the others no more than the moment until that is noticed.
func TestDeliveryReplacesStuckWorkers(t *testing.T) {
	const stuck, others, events = 10, 20, 1000
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		start, release := time.Now(), make(chan struct{})
		for range stuck {
			deliveryPut(deliveryConsumer(t, hub, func(context.Context, *Event) { <-release }), queueRun("a", 1))
		}
		var arrived sync.WaitGroup
		arrived.Add(others * events)
		for range others {
			c := deliveryConsumer(t, hub, func(context.Context, *Event) { arrived.Done() })
			for n := range events {
				deliveryPut(c, queueRun("a", n))
			}
		}
		arrived.Wait()
		require.LessOrEqual(t, time.Since(start), stuck*3*turnWatch)
		synctest.Wait()
		require.Len(t, hub.delivery.workers, stuck)

		close(release)
		synctest.Wait()
		require.Empty(t, hub.delivery.workers)
	})
}

// Consumers that a worker has claimed do not wait for the one whose handler blocks, or ends the goroutine.
func TestDeliveryReclaims(t *testing.T) {
	const consumers = 8 * maxClaim
	for name, test := range map[string]struct {
		processors int
		bad        []int // consumers
		handler    func(release chan struct{})
		wait       time.Duration // for all the others, at most
	}{
		"another worker":   {2, []int{0}, func(release chan struct{}) { <-release }, 0},
		"the only worker":  {1, []int{0}, func(release chan struct{}) { <-release }, 3 * turnWatch},
		"all workers":      {2, []int{0, consumers - 1}, func(release chan struct{}) { <-release }, 3 * turnWatch},
		"the worker's end": {1, []int{0}, func(chan struct{}) { runtime.Goexit() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(test.processors))
			synctest.Test(t, func(t *testing.T) {
				hub := unitHub(t, Config{})
				start, release := time.Now(), make(chan struct{})
				defer close(release)
				var arrived sync.WaitGroup
				arrived.Add(consumers - len(test.bad))
				ready := make([]*Consumer, consumers)
				for i := range ready {
					ready[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
						if slices.Contains(test.bad, i) {
							test.handler(release)
						} else {
							arrived.Done()
						}
					})
					ready[i].queue.put(queueRun("a", 1))
				}
				hub.delivery.add(ready...)
				arrived.Wait()
				require.LessOrEqual(t, time.Since(start), test.wait)
			})
		})
	}
}

// Whatever is pushed and popped comes in order, and the room is used again.
func TestDeliveryFIFO(t *testing.T) {
	var f fifo
	consumers := make([]*Consumer, 1000)
	for i := range consumers {
		consumers[i] = new(Consumer)
	}
	pushed, popped := 0, 0
	for _, n := range []int{1, -1, 100, -60, 3000, -2000, 3000, -4000, -40, 1} {
		for range n {
			f.push(consumers[pushed%len(consumers)])
			pushed++
		}
		for range -n {
			require.Same(t, consumers[popped%len(consumers)], f.pop())
			popped++
		}
		require.Equal(t, pushed-popped, f.len())
	}
	for range 100_000 {
		f.push(consumers[0])
		f.pop()
	}
	require.LessOrEqual(t, cap(f.items), 10_000)
}

// The events of a consumer come one at a time and in order, however many workers there are.
func TestDeliveryKeepsOrder(t *testing.T) {
	const consumers, events = 100, 1000
	hub := unitHub(t, Config{})
	var arrived, senders sync.WaitGroup
	arrived.Add(consumers * events)
	for range consumers {
		var inside atomic.Bool
		next := 0 // the race detector watches it, too
		c := deliveryConsumer(t, hub, func(_ context.Context, ev *Event) {
			if inside.Swap(true) {
				t.Error("the handler runs twice at a time")
			}
			if want := strconv.Itoa(next); want != string(ev.Payload) {
				t.Errorf("%s came where %s was due", ev.Payload, want)
			}
			if next++; next%97 == 0 {
				runtime.Gosched()
			}
			inside.Store(false)
			arrived.Done()
		})
		senders.Go(func() {
			for n := 0; n < events; n += 2 {
				deliveryPut(c, queueRun("a", n, n+1))
			}
		})
	}
	senders.Wait()
	arrived.Wait()
}

// No more handlers run at a time than there are processors, as long as none of them blocks; and a long backlog does not
// keep others waiting.
func TestDeliveryTakesTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		var order []string // one worker: needs no lock, which the race detector confirms
		record := func(_ context.Context, ev *Event) { order = append(order, ev.Topic) }
		long, short := deliveryConsumer(t, hub, record), deliveryConsumer(t, hub, record)
		for n := range 10 * turnEvents {
			long.queue.put(queueRun("long", n))
		}
		short.queue.put(queueRun("short", 1))
		hub.delivery.add(long, short)
		synctest.Wait()
		require.Len(t, order, 10*turnEvents+1)
		require.Equal(t, "short", order[turnEvents])
	})
}

func TestDeliverySurvivesHandlers(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic":          func() { panic("oops") },
		"panic with nil": func() { panic(nil) },
		"Goexit":         runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failures []error
				hub := unitHub(t, Config{OnError: func(err error) { failures = append(failures, err) }})
				stream := newEventStream()
				c := deliveryConsumer(t, hub, func(ctx context.Context, ev *Event) {
					stream.handle(ctx, ev)
					if n, _ := strconv.Atoi(string(ev.Payload)); n%3 == 0 {
						fail()
					}
				})
				deliveryPut(c, queueRun("a", 1, 2, 3, 4), queueRun("b", 5, 6, 7))
				synctest.Wait()
				require.Equal(t, []string{"a 1", "a 2", "a 3", "a 4", "b 5", "b 6", "b 7"}, stream.words())
				require.Equal(t, uint64(2), c.Stats().Panics)
				require.Equal(t, uint64(7), c.Stats().Delivered)
				require.Len(t, failures, 2)
				require.ErrorIs(t, failures[0], ErrPanic)
				require.ErrorContains(t, failures[0], `"a"`)
				require.ErrorContains(t, failures[0], "delivery_test.go", "the stack is told")
				require.ErrorContains(t, failures[1], `"b"`)

				require.NoError(t, c.Drain(t.Context()))
				require.Equal(t, "close", stream.words()[7])
			})
		})
	}
}

// A handler that fails on its very last event is done all the same.
func TestDeliverySurvivesLastEvent(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("oops") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := unitHub(t, Config{})
				c := deliveryConsumer(t, hub, func(context.Context, *Event) { fail() })
				require.NoError(t, c.Close())
				<-c.Done()
				require.NoError(t, hub.Stop(t.Context()))
				time.Sleep(time.Second)
				require.True(t, deliveryIdle(hub.delivery))
			})
		})
	}
}

type deliverySlow struct {
	topic   string
	busy    time.Duration
	waiting int
	at      time.Duration // since the test began
}

// deliveryWatch notes who is named as slow.
func deliveryWatch(hub *Hub) func() []deliverySlow {
	var mu sync.Mutex
	var named []deliverySlow
	start := time.Now()
	hub.delivery.slow = func(_ *Consumer, topic string, busy time.Duration, waiting int) {
		mu.Lock()
		defer mu.Unlock()
		named = append(named, deliverySlow{topic, busy, waiting, time.Since(start)})
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
			deliveryPut(other, queueRun("b", 1)) // the watch looks often
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

// With nothing to deliver there is no goroutine, and after a moment no timer.
func TestDeliveryIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		c := deliveryConsumer(t, hub, func(context.Context, *Event) { time.Sleep(turnWatch * 10) })
		for n := range 100 {
			deliveryPut(c, queueRun("a", n))
		}
		time.Sleep(time.Hour)
		require.Equal(t, uint64(100), c.Stats().Delivered)
		require.True(t, deliveryIdle(hub.delivery))
		require.False(t, hub.delivery.timer.Stop(), "the watch is off")
	})
}

func TestDeliveryManyConsumers(t *testing.T) {
	const consumers = 10_000
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		var running, most, arrived atomic.Int32
		all := make([]*Consumer, consumers)
		for i := range all {
			all[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
				n := running.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				arrived.Add(1)
				running.Add(-1)
			})
		}
		event := queueRun("a", 1)
		for _, c := range all {
			c.queue.put(event)
		}
		hub.delivery.add(all...)
		synctest.Wait()
		require.Equal(t, int32(consumers), arrived.Load())
		require.LessOrEqual(t, int(most.Load()), 2*runtime.GOMAXPROCS(0), "few workers do for many")
	})
}
