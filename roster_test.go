package pghub

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// onEvent makes a consumer whose handler calls f with every event that is not supervisory.
func onEvent(t *testing.T, hub *Hub, topic string, f func(ctx context.Context)) *Consumer {
	t.Helper()
	c, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
		if ev.Advisory == nil {
			f(ctx)
		}
	}, &ConsumerConfig{Name: topic, Topics: []string{topic}})
	require.NoError(t, err)
	return c
}

// rosterTest is a started hub, and what has happened in it.
type rosterTest struct {
	hub    *Hub
	server *fakepg.Server
	began  time.Time
}

func onRoster(t *testing.T, test func(t *testing.T, r *rosterTest)) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{StopTimeout: time.Hour})
		startHub(t, hub)
		test(t, &rosterTest{hub, server, time.Now()})
	})
}

// A handler in Stop and another one in Drain of its consumer do not wait for each other, whoever comes first.
func TestStopAndDrainWithinHandlers(t *testing.T) {
	for _, stopFirst := range []bool{true, false} {
		onRoster(t, func(t *testing.T, r *rosterTest) {
			var a *Consumer
			first, second := make(chan struct{}), make(chan struct{})
			var both sync.WaitGroup // are in their handlers: else Stop might come before the other one's event
			both.Add(2)
			gate := func(mine bool) {
				both.Done()
				both.Wait()
				if mine {
					close(first)
				} else {
					<-first
					synctest.Wait() // the other one waits
					defer close(second)
				}
			}
			a = onEvent(t, r.hub, "a", func(ctx context.Context) {
				gate(stopFirst)
				require.NoError(t, r.hub.Stop(ctx))
			})
			onEvent(t, r.hub, "b", func(ctx context.Context) {
				gate(!stopFirst)
				require.NoError(t, a.Drain(ctx))
			})
			r.server.Notify("a", "e")
			r.server.Notify("b", "e")
			awaitClosed(t, r.hub.Done(), "the end of the hub")
			awaitClosed(t, second, "the second call")
			require.Less(t, time.Since(r.began), time.Second)
		})
	}
}

// Handlers that drain each other, in a circle of any length, do not wait for each other.
func TestDrainInACircle(t *testing.T) {
	for _, n := range []int{2, 3, 7} {
		onRoster(t, func(t *testing.T, r *rosterTest) {
			consumers := make([]*Consumer, n)
			var all sync.WaitGroup // are in their handlers: else a Drain might come before the other one's event
			all.Add(n)
			for i := range consumers {
				topic := string(rune('a' + i))
				consumers[i] = onEvent(t, r.hub, topic, func(ctx context.Context) {
					all.Done()
					all.Wait()
					require.NoError(t, consumers[(i+1)%n].Drain(ctx))
				})
			}
			for i := range consumers {
				r.server.Notify(string(rune('a'+i)), "e")
			}
			for _, c := range consumers {
				awaitClosed(t, c.Done(), "the end of "+c.Name())
			}
			require.Less(t, time.Since(r.began), time.Second)
		})
	}
}

// Within a handler, Drain of another consumer waits for it; so does Stop of another hub.
func TestDrainWithinAHandlerWaits(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, c *Consumer) error{
		"Drain of another consumer": func(ctx context.Context, c *Consumer) error { return c.Drain(ctx) },
		"Stop of another hub":       func(ctx context.Context, c *Consumer) error { return c.hub.Stop(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			onRoster(t, func(t *testing.T, r *rosterTest) {
				hub := r.hub
				if name == "Stop of another hub" {
					hub = fakeHub(t, r.server, Config{})
					startHub(t, hub)
				}
				slow := onEvent(t, hub, "slow", func(context.Context) { time.Sleep(time.Minute) })
				ended := make(chan error, 1)
				onEvent(t, r.hub, "a", func(ctx context.Context) {
					err := end(ctx, slow)
					select {
					case <-slow.Done():
					default:
						t.Error("it has returned early")
					}
					ended <- err
				})
				r.server.Notify("slow", "e")
				synctest.Wait()
				r.server.Notify("a", "e")
				require.NoError(t, <-ended)
				require.Equal(t, time.Minute, time.Since(r.began))
			})
		})
	}
}

// A handler whose Drain is over counts as at work again at once: Stop within another handler waits for it.
func TestStopWithinAHandlerWaitsForOneThatHasDrained(t *testing.T) {
	onRoster(t, func(t *testing.T, r *rosterTest) {
		c := onEvent(t, r.hub, "c", func(context.Context) { time.Sleep(time.Minute) })
		var worked atomic.Bool
		onEvent(t, r.hub, "b", func(ctx context.Context) {
			require.NoError(t, c.Drain(ctx))
			time.Sleep(time.Hour / 2) // at work
			worked.Store(true)
		})
		stopped := make(chan error, 1)
		onEvent(t, r.hub, "a", func(ctx context.Context) {
			err := r.hub.Stop(ctx)
			require.True(t, worked.Load(), "Stop has returned while another handler was at work")
			stopped <- err
		})
		r.server.Notify("c", "e")
		r.server.Notify("b", "e")
		synctest.Wait()
		r.server.Notify("a", "e")
		require.NoError(t, <-stopped)
	})
}

// A Drain whose context ends within a handler leaves the roster as it was.
func TestDrainGivenUpWithinAHandler(t *testing.T) {
	onRoster(t, func(t *testing.T, r *rosterTest) {
		release := make(chan struct{})
		stuck := onEvent(t, r.hub, "stuck", func(context.Context) { <-release })
		gaveUp := make(chan error)
		onEvent(t, r.hub, "a", func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			gaveUp <- stuck.Drain(ctx)
		})
		r.server.Notify("stuck", "e")
		synctest.Wait()
		r.server.Notify("a", "e")
		require.ErrorIs(t, <-gaveUp, context.DeadlineExceeded)
		attended := func(unfinished int) {
			t.Helper()
			synctest.Wait()
			r.hub.roster.mu.Lock()
			defer r.hub.roster.mu.Unlock()
			require.Equal(t, unfinished, r.hub.roster.unfinished)
			require.Zero(t, r.hub.roster.waiting)
			require.Empty(t, stuck.drainers)
		}
		attended(2)
		close(release)
		require.NoError(t, r.hub.Stop(t.Context()))
		attended(0)
	})
}

// The body of a loop that calls Stop does not wait for itself, and gets the rest of its stream. Stop called by somebody
// else waits for the loop.
func TestStopWithinALoop(t *testing.T) {
	onRoster(t, func(t *testing.T, r *rosterTest) {
		var lines []string
		for ev := range r.hub.Events(t.Context(), "a") {
			lines = append(lines, lineOf(ev))
			if len(lines) == 1 {
				r.server.Notify("a", "e1")
				synctest.Wait()
				require.NoError(t, r.hub.Stop(t.Context()))
			}
		}
		require.Equal(t, []string{lineSubscribe("a"), "a e1", lineStop}, lines)
		require.Zero(t, time.Since(r.began))
		awaitClosed(t, r.hub.Done(), "the end of the hub")
	})
	onRoster(t, func(t *testing.T, r *rosterTest) {
		var left atomic.Bool
		started := make(chan struct{})
		go func() {
			for ev := range r.hub.Events(t.Context(), "a") {
				if ev.Advisory.Action == ActionSubscribe {
					close(started)
					time.Sleep(time.Minute)
				}
			}
			left.Store(true)
		}()
		<-started
		require.NoError(t, r.hub.Stop(t.Context()))
		synctest.Wait()
		require.True(t, left.Load())
		require.Equal(t, time.Minute, time.Since(r.began))
	})
}

// Done of a consumer is closed when Stop has returned, and so is Done of the hub.
func TestDoneAfterStop(t *testing.T) {
	for range fewer(3000) {
		hub := unitHub(t, Config{})
		var consumers []*Consumer
		for range 4 {
			c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
			require.NoError(t, err)
			consumers = append(consumers, c)
		}
		require.NoError(t, hub.Stop(t.Context()))
		for _, done := range []<-chan struct{}{consumers[0].Done(), consumers[1].Done(), consumers[2].Done(), consumers[3].Done(), hub.Done()} {
			select {
			case <-done:
			default:
				require.FailNow(t, "Done is open after Stop")
			}
		}
	}
}

// Consumers that are made while the hub stops are either refused or stopped with the others.
func TestConsumersMadeWhileStopping(t *testing.T) {
	for range fewer(500) {
		hub := unitHub(t, Config{})
		var all sync.WaitGroup
		var made []*Consumer
		all.Go(func() {
			for {
				c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
				if err != nil {
					require.ErrorIs(t, err, ErrStopped)
					return
				}
				made = append(made, c)
			}
		})
		require.NoError(t, hub.Stop(t.Context()))
		all.Wait()
		for _, c := range made {
			awaitClosed(t, c.Done(), "the end of a consumer")
		}
	}
}

// The sums behind Stop and Drain within handlers.
func TestRosterCounts(t *testing.T) {
	isClosed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	entered := func(r *roster) *Consumer {
		c := &Consumer{done: make(chan struct{})}
		require.NoError(t, r.enter(c))
		return c
	}
	t.Run("who has left waits no more", func(t *testing.T) {
		r := newRoster()
		gone, other := entered(r), entered(r)
		back := r.waitForAll(gone)
		r.end()
		r.leave(gone)
		require.False(t, isClosed(r.quiet), "the other one is at work")
		back()
		require.False(t, isClosed(r.quiet))
		r.leave(other)
		require.True(t, isClosed(r.quiet))
	})
	t.Run("who waits for all is not waited for", func(t *testing.T) {
		r := newRoster()
		a, b, busy := entered(r), entered(r), entered(r)
		defer r.waitForAll(b)()
		r.end()
		released, back := r.waitFor(a, b)
		require.True(t, isClosed(released), "though somebody is busy")
		back()
		require.False(t, isClosed(r.quiet))
		r.leave(busy)
		require.False(t, isClosed(r.quiet), "a is at work again")
		r.leave(a)
		require.True(t, isClosed(r.quiet))
	})
}
