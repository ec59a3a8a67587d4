package pghub

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// The age of the oldest event counts from its arrival, while it waits and while the handler is busy with it, and not beyond.
func TestOldest(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		next := make(chan struct{})
		c := onEvent(t, hub, "a", func(context.Context) { <-next })
		require.Zero(t, c.Stats().Oldest)
		require.Zero(t, hub.Stats().Oldest)

		time.Sleep(time.Hour)
		first := time.Now()
		server.Notify("a", "e1")
		synctest.Wait()
		time.Sleep(time.Minute)
		second := time.Now()
		server.Notify("a", "e2")
		server.Notify("a", "e3")
		synctest.Wait()
		time.Sleep(time.Minute)
		is := func(want time.Time, waiting int) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, want, c.Stats().Oldest)
			require.Equal(t, want, hub.Stats().Oldest)
			require.Equal(t, waiting, c.Stats().Queued)
		}
		is(first, 2)
		next <- struct{}{}
		is(second, 1)
		next <- struct{}{}
		is(second, 0)
		next <- struct{}{}
		is(time.Time{}, 0)
	})
}

// An event that is held back, for others to come with it, is one that waits.
func TestOldestOfWhatLingers(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		c, err := hub.BatchConsumer(t.Context(), func(context.Context, []*Event) {}, &BatchConfig{
			ConsumerConfig: ConsumerConfig{Topics: []string{"a"}}, Delay: time.Hour,
		})
		require.NoError(t, err)
		synctest.Wait()
		before := c.Stats()
		require.Zero(t, before.Batches, "advisories are none")
		at := time.Now()
		server.Notify("a", "e1")
		synctest.Wait()
		time.Sleep(time.Minute)
		server.Notify("a", "e2")
		synctest.Wait()
		require.Equal(t, at, c.Stats().Oldest)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, c.Stats().Oldest)
		require.EqualValues(t, 1, c.Stats().Batches, "two events in one")
		require.EqualValues(t, 1, hub.Stats().Batches)
	})
}

// Gaps are counted for those who have a Resync and for those who have none, loops too; calls of Resync by how they ended.
func TestGapsAreCounted(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		fails := 2
		keeper, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{
			Topics: []string{"a"}, ResyncFirst: true, Resync: func(context.Context, Gap) error {
				if fails--; fails >= 0 {
					return errors.New("not now")
				}
				return nil
			},
		})
		require.NoError(t, err)
		plain := onEvent(t, hub, "a", func(context.Context) {})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range hub.Events(t.Context(), "a") {
			}
		}()
		time.Sleep(time.Minute) // the backoff
		synctest.Wait()
		require.EqualValues(t, 1, keeper.Stats().Resyncs, "the first load")
		require.EqualValues(t, 2, keeper.Stats().ResyncErrors)
		require.Zero(t, hub.Stats().Gaps, "a first load is none")

		server.Notify("a", `e:{"pghub":"gap","since":"2026-01-02T03:04:05Z"}`)
		server.Notify("a", "e1")
		synctest.Wait()
		for _, c := range []*Consumer{keeper, plain} {
			require.EqualValues(t, 1, c.Stats().Gaps)
		}
		require.EqualValues(t, 3, hub.Stats().Gaps)
		require.EqualValues(t, 2, keeper.Stats().Resyncs)

		server.Kill()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.EqualValues(t, 2, plain.Stats().Gaps)
		st := hub.Stats()
		require.EqualValues(t, 6, st.Gaps)
		require.Zero(t, st.Lags)
		require.EqualValues(t, 3, st.Resyncs)
		require.EqualValues(t, 2, st.ResyncErrors)
		require.NoError(t, hub.Stop(t.Context()))
		<-ended
		require.Equal(t, uint64(6), hub.Stats().Gaps, "of consumers that are gone too")
		require.Equal(t, uint64(3), hub.Stats().Resyncs)
		require.Equal(t, uint64(2), hub.Stats().ResyncErrors)
	})
}

// A lag is a gap that a full queue has caused.
func TestLagsAreCounted(t *testing.T) {
	hub := unitHub(t, Config{})
	c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{QueueSize: 2})
	require.NoError(t, err)
	c.queue.put(0, queueRun("a", 1, 2, 3, 4))
	for c.turn() {
	}
	require.EqualValues(t, 1, c.Stats().Lags)
	require.EqualValues(t, 1, c.Stats().Gaps)
	require.EqualValues(t, 1, hub.Stats().Lags)
}

// Sums by name hold those that are gone, and one that ends does not change them. Names are not held without bound.
func TestStatsByName(t *testing.T) {
	hub := unitHub(t, Config{})
	named := func(name string) ConsumerStats {
		t.Helper()
		for _, st := range hub.StatsByName() {
			if st.Name == name {
				return st
			}
		}
		return ConsumerStats{}
	}
	deliver := func(c *Consumer) {
		c.queue.put(0, queueRun("a", 1, 2, 3))
		for c.turn() {
		}
	}
	consumer := func(name string) *Consumer {
		c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{Name: name})
		require.NoError(t, err)
		return c
	}
	first, second := consumer("a"), consumer("a")
	deliver(first)
	deliver(second)
	deliver(consumer("b"))
	require.EqualValues(t, 6, named("a").Delivered)
	require.NoError(t, first.Drain(t.Context()))
	require.EqualValues(t, 7, named("a").Delivered, "and its close")
	require.EqualValues(t, 3, named("b").Delivered)
	second.queue.put(0, queueRun("a", 1, 2))
	require.Equal(t, 2, named("a").Queued)
	require.NotZero(t, named("a").Oldest)

	for i := range 2 * maxAccounts {
		c := consumer(fmt.Sprintf("client %d", i))
		deliver(c)
		require.NoError(t, c.Drain(t.Context()))
	}
	all := hub.StatsByName()
	require.LessOrEqual(t, len(all), maxAccounts+1)
	sum := ConsumerStats{}
	for _, st := range all {
		sum.add(st)
	}
	require.Equal(t, hub.Stats().Delivered, sum.Delivered, "all are counted somewhere")
	require.NotZero(t, named("").Delivered)
	require.Empty(t, all[0].Name, "sorted")
}
