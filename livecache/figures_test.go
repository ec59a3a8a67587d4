package livecache

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// While LoadAll fails events wait, perhaps for long: what is loaded meanwhile is not kept, and figures say so.
func TestNothingIsKeptWhileLoadAllFails(t *testing.T) {
	var refused atomic.Bool
	attempts := 0 // owned by the cache's goroutine
	bubble(t, func(f *fixture, cfg *Config[int64, string]) {
		cfg.LoadAll = func(ctx context.Context) (map[int64]string, error) {
			if refused.Load() {
				if attempts++; attempts%2 == 0 {
					panic("on purpose")
				}
				return nil, errors.New("statement timeout")
			}
			return f.table.loadAll(ctx)
		}
	}, func(t *testing.T, f *fixture) {
		f.get(1, "one", none)
		require.True(t, f.cache.Stats().Live)
		refused.Store(true)
		f.srv.Disconnect()
		time.Sleep(time.Minute) // it has failed, again and again
		synctest.Wait()
		require.False(t, f.cache.Stats().Live)
		f.get(1, "one", "[[1]]")
		f.table.set(1, "uno")
		f.publish("e1")
		f.get(1, "uno", "[[1]]")
		refused.Store(false)
		time.Sleep(time.Minute)
		f.get(1, "uno", "[[1]]") // the event has come
		f.get(1, "uno", none)
		require.True(t, f.cache.Stats().Live)
	})
}

// What an operator asks: does it hear of changes, how often did it not, is a load stuck, how long do loads take, is it too small.
func TestFigures(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Name = "prices" }, func(t *testing.T, f *fixture) {
		require.Equal(t, "prices", f.cache.Name())
		require.True(t, f.cache.Stats().Live)

		release := f.table.hold()
		first, second := f.start(1), f.start(1)
		third := f.start(2)
		time.Sleep(3 * time.Second)
		require.Equal(t, 2, f.cache.Stats().Loading)
		require.Zero(t, f.cache.Stats().LoadTime)
		release()
		for _, got := range []<-chan answer{first, second, third} {
			require.NoError(t, (<-got).err)
		}
		synctest.Wait()
		st := f.cache.Stats()
		require.Zero(t, st.Loading)
		require.Equal(t, 3*time.Second, st.LoadTime)
		require.EqualValues(t, 2, st.Loads)

		f.srv.Down()
		synctest.Wait()
		require.False(t, f.cache.Stats().Live)
		f.srv.Up()
		time.Sleep(time.Minute)
		st = f.cache.Stats()
		require.True(t, st.Live)
		require.EqualValues(t, 1, st.Outages)

		require.NoError(t, f.cache.Close())
		require.False(t, f.cache.Stats().Live)
	})
}

// A cache on a hub that does not listen lives by ResyncEvery.
func TestPollOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, err := pghub.New(pghub.Config{PollOnly: true})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		rows := newTable(map[int64]string{1: "one"})
		cache, err := New(t.Context(), hub, Config[int64, string]{Topic: "rows", Key: Rows, Load: rows.load, ResyncEvery: time.Minute, ResyncJitter: time.Second})
		require.NoError(t, err)
		<-cache.Ready()
		get := func(want string) {
			value, _, err := cache.Get(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, want, value)
		}
		get("one")
		rows.set(1, "uno")
		get("one")
		time.Sleep(62 * time.Second)
		synctest.Wait()
		get("uno")
		require.NoError(t, cache.Close())
		require.NoError(t, hub.Stop(t.Context()))
	})
}

// Keys that leave for lack of room are counted, and those that events have named are not.
func TestEvictionsAreCounted(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Max = 100 }, func(t *testing.T, f *fixture) {
		keys := make([]int64, 100)
		for i := range keys {
			keys[i] = int64(i + 1)
		}
		_, err := f.cache.GetAll(t.Context(), keys[:10])
		require.NoError(t, err)
		f.publish("e1,2,3")
		f.cache.InvalidateAll()
		require.Zero(t, f.cache.Stats().Evictions)
		for round := range int64(10) {
			for i := range keys {
				keys[i] += 100 * round
			}
			_, err := f.cache.GetAll(t.Context(), keys)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.NotZero(t, f.cache.Stats().Evictions)
	})
}
