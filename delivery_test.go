package pghub

import (
	"context"
	"math/bits"
	"runtime"
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
	if wake, _ := c.queue.put(0, runs...); wake {
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
	d.lookout.mu.Lock()
	defer d.lookout.mu.Unlock()
	return d.shift.workers == 0 && d.shift.looking == 0 && d.ready.len() == 0 && !d.watching &&
		len(d.lookout.workers) == 0 && !d.lookout.looking
}

func deliverySize(d *delivery) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shift.size
}

// Handlers that block for good cost the others no more than the moment until that is noticed, however many they are: the
// workers double in every tick.
func TestDeliveryStuckHandlers(t *testing.T) {
	for _, stuck := range []int{1, 10, 1000, 10_000} {
		t.Run(strconv.Itoa(stuck), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := unitHub(t, Config{})
				release := make(chan struct{})
				var blocked sync.WaitGroup
				blocked.Add(stuck)
				consumers := make([]*Consumer, stuck)
				for i := range consumers {
					consumers[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
						blocked.Done()
						<-release
					})
					consumers[i].queue.put(0, queueRun("a", 1))
				}
				start, arrived := time.Now(), make(chan struct{})
				quick := deliveryConsumer(t, hub, func(context.Context, *Event) { arrived <- struct{}{} })
				quick.queue.put(0, queueRun("a", 1))
				hub.delivery.add(append(consumers, quick)...)
				<-arrived
				ticks := time.Duration(bits.Len(uint(stuck))) // 2 + 4 + 8 + …
				require.LessOrEqual(t, time.Since(start), ticks*watchTick, "while they begin to block")

				blocked.Wait()
				for range 5 {
					start = time.Now()
					deliveryPut(quick, queueRun("a", 2))
					<-arrived
					require.LessOrEqual(t, time.Since(start), watchTick, "while all of them are stuck")
				}
				time.Sleep(time.Second)
				hub.delivery.mu.Lock()
				require.False(t, hub.delivery.watching, "nobody waits, and so nobody watches")
				hub.delivery.mu.Unlock()
				close(release)
				time.Sleep(time.Second)
				require.True(t, deliveryIdle(hub.delivery))
			})
		})
	}
}

// Handlers that are slow, and not stuck, get more workers as well.
func TestDeliverySlowHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const consumers = 1000
		hub := unitHub(t, Config{})
		var arrived sync.WaitGroup
		arrived.Add(consumers)
		all := make([]*Consumer, consumers)
		for i := range all {
			all[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
				time.Sleep(time.Millisecond)
				arrived.Done()
			})
			all[i].queue.put(0, queueRun("a", 1))
		}
		start := time.Now()
		hub.delivery.add(all...)
		arrived.Wait()
		require.LessOrEqual(t, time.Since(start), 20*watchTick)
	})
}

// Handlers that are quick do not get more workers, however many wait: to wait for a processor is not to wait for a handler.
func TestDeliveryQuickHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consumers := 2 * 10 * 10 * fewTurns * runtime.GOMAXPROCS(0) // work for twenty ticks
		hub := unitHub(t, Config{})
		var arrived sync.WaitGroup
		arrived.Add(consumers)
		var largest atomic.Int64
		all := make([]*Consumer, consumers)
		for i := range all {
			all[i] = deliveryConsumer(t, hub, func(context.Context, *Event) {
				time.Sleep(watchTick / (10 * fewTurns))
				largest.Store(max(largest.Load(), int64(deliverySize(hub.delivery))))
				arrived.Done()
			})
			all[i].queue.put(0, queueRun("a", 1))
		}
		start := time.Now()
		hub.delivery.add(all...)
		arrived.Wait()
		require.Greater(t, time.Since(start), 10*watchTick, "the watch has looked")
		require.EqualValues(t, runtime.GOMAXPROCS(0), largest.Load())
	})
}

// A shift that had grown becomes smaller again, and a worker more or less than its size is never counted.
func TestDeliveryShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		for range 100 * runtime.GOMAXPROCS(0) {
			c := deliveryConsumer(t, hub, func(context.Context, *Event) { time.Sleep(10 * time.Millisecond) })
			deliveryPut(c, queueRun("a", 1))
		}
		time.Sleep(4*watchTick + watchTick/2)
		require.Greater(t, deliverySize(hub.delivery), 4*runtime.GOMAXPROCS(0))
		time.Sleep(time.Second)
		require.Equal(t, runtime.GOMAXPROCS(0), deliverySize(hub.delivery))
		require.True(t, deliveryIdle(hub.delivery))
	})
}

// What the watch makes of a shift: when nobody waits it is halved, by another one where more than the fewest are at work; and
// when somebody waits, few turns make it grow.
func TestDeliveryWatch(t *testing.T) {
	fewest := runtime.GOMAXPROCS(0)
	for name, c := range map[string]struct {
		before  *shift
		waits   bool
		size    int
		another bool
	}{
		"all have left":           {&shift{size: 8 * fewest}, false, 4 * fewest, false},
		"the fewest are at work":  {&shift{size: 8 * fewest, workers: fewest}, false, 4 * fewest, false},
		"one more is at work":     {&shift{size: 8 * fewest, workers: fewest + 1}, false, 4 * fewest, true},
		"nearly the fewest":       {&shift{size: fewest + 1}, false, fewest, false},
		"turns enough":            {&shift{size: 4 * fewest, workers: 4 * fewest, turns: 4 * fewest * fewTurns}, true, 4 * fewest, false},
		"one turn less":           {&shift{size: 4 * fewest, workers: 4 * fewest, turns: 4*fewest*fewTurns - 1}, true, fewest, true},
		"somebody looks for work": {&shift{size: 4 * fewest, workers: 4 * fewest, looking: 1}, true, 4 * fewest, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := unitHub(t, Config{})
				d := hub.delivery
				d.shift = c.before
				if c.waits {
					d.ready.push(deliveryConsumer(t, hub, func(context.Context, *Event) {}))
				}
				d.watch()
				d.mu.Lock()
				defer d.mu.Unlock()
				require.Equal(t, c.size, d.shift.size)
				require.Equal(t, c.another, d.shift != c.before)
				require.Equal(t, c.another, c.before.over.Load())
				if !c.another {
					require.Zero(t, d.shift.turns, "they are counted anew")
				}
				if d.watching {
					d.timer.Stop()
				}
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
			long.queue.put(0, queueRun("long", n))
		}
		short.queue.put(0, queueRun("short", 1))
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

// With nothing to deliver there is no goroutine, and after a moment no timer.
func TestDeliveryIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{})
		c := deliveryConsumer(t, hub, func(context.Context, *Event) { time.Sleep(watchTick * 10) })
		for n := range 100 {
			deliveryPut(c, queueRun("a", n))
		}
		time.Sleep(time.Hour)
		require.Equal(t, uint64(100), c.Stats().Delivered)
		require.True(t, deliveryIdle(hub.delivery))
		if watch := hub.delivery.timer; watch != nil {
			require.False(t, watch.Stop(), "the watch is off")
		}
		require.False(t, hub.delivery.lookout.timer.Stop(), "the lookout is off")
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
			c.queue.put(0, event)
		}
		hub.delivery.add(all...)
		synctest.Wait()
		require.Equal(t, int32(consumers), arrived.Load())
		require.LessOrEqual(t, int(most.Load()), 2*runtime.GOMAXPROCS(0), "few workers do for many")
	})
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
		consumers[i].queue.put(0, queueRun("a", 1))
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
