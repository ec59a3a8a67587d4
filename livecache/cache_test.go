package livecache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
)

const none = "[]" // no loads

func TestReadsThroughAndForgets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		f.get(1, "one", "[[1]]")
		f.get(1, "one", none)
		f.get(9, "", "[[9]]") // that there is none is remembered too
		f.get(9, "", none)
		f.table.set(1, "uno")
		f.table.set(9, "nine")
		f.get(1, "one", none)
		f.publish("e1,9")
		f.get(1, "uno", "[[1]]")
		f.get(9, "nine", "[[9]]")
		f.publish("e77")
		f.get(1, "uno", none)
		require.Equal(t, map[int64]string{1: "uno", 9: "nine"}, maps.Collect(f.cache.All()))

		f.table.set(2, "")
		all, err := f.cache.GetAll(pgtest.Within(t), []int64{1, 3, 8, 9})
		require.NoError(t, err)
		require.Equal(t, map[int64]string{1: "uno", 3: "three", 9: "nine"}, all)
		require.Equal(t, "[[3 8]]", f.table.loaded())

		st := f.cache.Stats()
		require.Equal(t, Stats{Live: true, Keys: 4, Hits: 6, Misses: 6, Loads: 5, Invalidations: 3, Drops: 1}, st)
	})
}

// All who ask for a key share a load, and keys that are asked for while all loaders are busy go together.
func TestLoadsAreShared(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Loads, cfg.Batch = 1, 3 }, func(t *testing.T, f *fixture) {
		release := f.table.hold()
		first, second := f.start(1), f.start(1)
		var others []<-chan answer
		for key := range int64(5) {
			others = append(others, f.start(10+key))
		}
		require.Equal(t, "[[1]]", f.table.loaded())
		release()
		require.Equal(t, answer{"one", nil}, <-first)
		require.Equal(t, answer{"one", nil}, <-second)
		for _, got := range others {
			require.Equal(t, answer{}, <-got)
		}
		require.Equal(t, "[[10 11 12] [13 14]]", f.table.loaded())
	})
}

// Loads run beside each other, as many as are allowed.
func TestLoadsRunBesideEachOther(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Loads, cfg.Batch = 3, 2 }, func(t *testing.T, f *fixture) {
		release := f.table.hold()
		done := make(chan error, 1)
		go func() {
			_, err := f.cache.GetAll(context.Background(), []int64{1, 2, 3, 4, 5, 6, 7, 8})
			done <- err
		}()
		synctest.Wait()
		f.table.mu.Lock()
		require.Len(t, f.table.calls, 3)
		f.table.mu.Unlock()
		release()
		require.NoError(t, <-done)
		f.table.mu.Lock()
		require.Len(t, f.table.calls, 4)
		f.table.mu.Unlock()
	})
}

// What was read before an event is not kept when it comes in after it, and nobody who asks after the event gets it.
func TestFence(t *testing.T) {
	drops := map[string]func(*fixture){
		"key":   func(f *fixture) { f.publish("e1") },
		"other": func(f *fixture) { f.publish("e5,1") },
		"all":   func(f *fixture) { f.publish("e") },
		"hand":  func(f *fixture) { f.cache.Invalidate(1) },
		"gap": func(f *fixture) {
			f.srv.Disconnect()
			time.Sleep(10 * time.Second)
			synctest.Wait()
		},
	}
	for name, drop := range drops {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.LoadTimeout = time.Hour }, func(t *testing.T, f *fixture) {
				release := f.table.hold()
				before := f.start(1) // has read
				f.table.set(1, "uno")
				drop(f)
				later := f.table.hold()
				after := f.start(1) // does not join it
				release()
				require.Equal(t, answer{"one", nil}, <-before)
				synctest.Wait()
				require.Empty(t, maps.Collect(f.cache.All()))
				later()
				require.Equal(t, answer{"uno", nil}, <-after)
				require.Equal(t, "[[1] [1]]", f.table.loaded())
				f.get(1, "uno", none)
				require.EqualValues(t, 1, f.cache.Stats().Fenced)
			})
		})
	}
}

// A key whose load has not begun when the event comes is read after it: that is kept, and joined.
func TestFenceSparesWhatHasNotBegun(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Loads = 1 }, func(t *testing.T, f *fixture) {
		release := f.table.hold()
		busy := f.start(2)
		waiting := f.start(1)
		f.table.set(1, "uno")
		f.publish("e1")
		joins := f.start(1)
		release()
		require.Equal(t, answer{"two", nil}, <-busy)
		require.Equal(t, answer{"uno", nil}, <-waiting)
		require.Equal(t, answer{"uno", nil}, <-joins)
		require.Equal(t, "[[2] [1]]", f.table.loaded())
		f.get(1, "uno", none)
		require.Zero(t, f.cache.Stats().Fenced)
	})
}

// After a gap nothing is served that was kept before it.
func TestGapDropsAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		f.get(1, "one", "[[1]]")
		f.srv.Down()
		f.srv.Disconnect()
		synctest.Wait()
		f.table.set(1, "uno")
		f.get(1, "one", none) // nobody tells
		f.srv.Up()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.get(1, "uno", "[[1]]")
		f.get(1, "uno", none)
	})
}

// With LoadThrough the database is asked during an outage, by everybody, and nothing of it is kept.
func TestOutageLoadThrough(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Outage = LoadThrough }, func(t *testing.T, f *fixture) {
		f.get(1, "one", "[[1]]")
		f.srv.Down()
		f.srv.Disconnect()
		synctest.Wait()
		f.table.set(1, "uno")
		f.get(1, "uno", "[[1]]")
		f.get(1, "uno", "[[1]]")

		release := f.table.hold()
		before := f.start(1)
		f.table.set(1, "eins")
		later := f.table.hold()
		after := f.start(1) // does not join: nobody could tell it that the other has read too early
		release()
		later()
		require.Equal(t, answer{"uno", nil}, <-before)
		require.Equal(t, answer{"eins", nil}, <-after)
		f.table.loaded()

		f.srv.Up()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.get(1, "eins", "[[1]]")
		f.get(1, "eins", none)
	})
}

// Before the topic is in effect nothing is kept, and neither is it when the hub has stopped. A cache that is closed says so.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub, err := pghub.New(srv.Config())
		require.NoError(t, err)
		tb := newTable(map[int64]string{1: "one"})
		f := &fixture{t: t, srv: srv, hub: hub, table: tb}
		f.cache, err = New(pgtest.Within(t), hub, Config[int64, string]{Topic: "rows", Key: Rows, Load: tb.load})
		require.NoError(t, err)
		f.get(1, "one", "[[1]]")
		f.get(1, "one", "[[1]]")
		select {
		case <-f.cache.Ready():
			require.Fail(t, "ready before Start")
		default:
		}
		release := tb.hold()
		early := f.start(1)
		require.NoError(t, hub.Start(pgtest.Within(t)))
		<-f.cache.Ready()
		tb.set(1, "uno") // perhaps before the topic was in effect
		release()
		require.Equal(t, answer{"one", nil}, <-early)
		tb.loaded()
		f.get(1, "uno", "[[1]]")
		f.get(1, "uno", none)
		require.NoError(t, hub.Stop(pgtest.Within(t)))
		f.get(1, "uno", "[[1]]")
		f.get(1, "uno", "[[1]]")

		release = tb.hold()
		defer release()
		waits := f.start(1)
		require.NoError(t, f.cache.Close())
		require.ErrorIs(t, (<-waits).err, pghub.ErrClosed)
		_, _, err = f.cache.Get(pgtest.Within(t), 1)
		require.ErrorIs(t, err, pghub.ErrClosed)
		_, err = f.cache.GetAll(pgtest.Within(t), []int64{1})
		require.ErrorIs(t, err, pghub.ErrClosed)
		require.NoError(t, f.cache.Close())
	})
}

// An event that is not understood may have been about anything, and the next ones are heard.
func TestWhatIsNotUnderstoodDropsAll(t *testing.T) {
	key := func(ev *pghub.Event) ([]int64, error) {
		if len(ev.Key) == 0 {
			return Rows(ev)
		}
		switch ev.Key[0] {
		case 66:
			panic("no good")
		case 77:
			runtime.Goexit()
		case 88:
			return []int64{2}, errors.New("unknown")
		case 99:
			return nil, fmt.Errorf("wrapped: %w", ErrAll)
		}
		return Rows(ev)
	}
	for payload, errs := range map[string]int{
		"x": 1, "": 1, "e1:x": 1, "e1:{": 1, `e1:"text"`: 1, "e66": 0, "e77": 0, "e88": 1, "e99": 0, "e": 0,
		`e1:{"op":"truncate"}`: 0, `e:{"op":"unmute"}`: 0, `e:{"op":"insert","ids":[{"id":"a"}]}`: 0,
	} {
		t.Run(payload, func(t *testing.T) {
			bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Key = key }, func(t *testing.T, f *fixture) {
				f.get(3, "three", "[[3]]")
				f.publish(payload)
				f.get(3, "three", "[[3]]")
				f.publish("e3")
				f.get(3, "three", "[[3]]")
				f.get(3, "three", none)
				require.Len(t, f.errs, errs)
				require.EqualValues(t, errs, f.cache.Stats().Misunderstood)
			})
		})
	}
}

func TestLoadAll(t *testing.T) {
	var attempts int
	bubble(t, func(f *fixture, cfg *Config[int64, string]) {
		cfg.LoadAll = func(ctx context.Context) (map[int64]string, error) {
			if attempts++; attempts == 1 {
				return nil, errors.New("not now")
			}
			return f.table.loadAll(ctx)
		}
	}, func(t *testing.T, f *fixture) {
		<-f.cache.Ready()
		require.Equal(t, 2, attempts)
		f.get(1, "one", none)
		require.Len(t, maps.Collect(f.cache.All()), 3)
		f.table.set(1, "uno")
		f.table.set(2, "due")
		f.publish("e1")
		f.get(1, "uno", "[[1]]")
		f.get(2, "two", none)
		f.srv.Disconnect()
		time.Sleep(time.Minute)
		synctest.Wait()
		f.get(2, "due", none)
	})
}

// What LoadAll has read is older than what was loaded, or invalidated, while it ran.
func TestLoadAllDoesNotGoBack(t *testing.T) {
	read, goOn := make(chan struct{}), make(chan struct{})
	synctest.Test(t, func(t *testing.T) {
		read, goOn = make(chan struct{}), make(chan struct{})
		f := &fixture{t: t, srv: pghubtest.New(t), table: newTable(map[int64]string{1: "one", 2: "two", 3: "three"})}
		f.hub = f.srv.Hub()
		var err error
		f.cache, err = New(pgtest.Within(t), f.hub, Config[int64, string]{Topic: "rows", Key: Rows, Load: f.table.load, LoadAll: func(ctx context.Context) (map[int64]string, error) {
			all, err := f.table.loadAll(ctx)
			close(read)
			<-goOn
			return all, err
		}})
		require.NoError(t, err)
		defer f.cache.Close()
		<-read
		f.table.set(1, "uno")
		f.table.set(2, "due")
		f.get(1, "uno", "[[1]]")
		f.cache.Invalidate(2)
		close(goOn)
		<-f.cache.Ready()
		f.get(1, "uno", none)
		f.get(2, "due", "[[2]]")
		f.get(3, "three", none)
	})
}

// A load that fails, in whatever way, fails for those who wait; the next one is tried again.
func TestLoadFails(t *testing.T) {
	broken := errors.New("broken")
	for name, fail := range map[string]struct {
		fail func() error
		want string
	}{
		"error":  {func() error { return broken }, "broken"},
		"panic":  {func() error { panic(broken) }, "Load panicked: broken"},
		"Goexit": {func() error { runtime.Goexit(); return nil }, "ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Loads = 1 }, func(t *testing.T, f *fixture) {
				f.table.fail = fail.fail
				release := f.table.hold()
				first, second := f.start(1), f.start(2)
				release()
				require.ErrorContains(t, (<-first).err, fail.want)
				require.ErrorContains(t, (<-second).err, fail.want)
				f.table.mu.Lock()
				f.table.fail = nil
				f.table.mu.Unlock()
				f.table.loaded()
				f.get(1, "one", "[[1]]")
				f.get(1, "one", none)
				require.EqualValues(t, 2, f.cache.Stats().LoadErrors)
			})
		})
	}
}

// A caller's context ends its own wait, and LoadTimeout that of all.
func TestContexts(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fixture) {
		release := f.table.hold()
		defer release()
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error, 1)
		go func() {
			_, _, err := f.cache.Get(ctx, 1)
			gone <- err
		}()
		stays := f.start(1)
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		began := time.Now()
		require.ErrorIs(t, (<-stays).err, context.DeadlineExceeded)
		require.Equal(t, defaultLoadTimeout, time.Since(began))
		require.Equal(t, "[[1]]", f.table.loaded())
	})
}

func TestMaxBounds(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Max = 100 }, func(t *testing.T, f *fixture) {
		keys := make([]int64, 10_000)
		for i := range keys {
			keys[i] = int64(i)
		}
		_, err := f.cache.GetAll(pgtest.Within(t), keys)
		require.NoError(t, err)
		synctest.Wait()
		f.cache.entries.CleanUp()
		require.LessOrEqual(t, f.cache.Stats().Keys, 100)
	})
}

func TestTTL(t *testing.T) {
	bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.TTL = time.Hour }, func(t *testing.T, f *fixture) {
		f.get(1, "one", "[[1]]")
		time.Sleep(59 * time.Minute)
		f.get(1, "one", none)
		time.Sleep(2 * time.Minute)
		f.get(1, "one", "[[1]]")
	})
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	hub := pghubtest.New(t).Hub()
	tb := newTable(nil)
	good := Config[int64, string]{Topic: "rows", Key: Rows, Load: tb.load}
	for want, spoil := range map[string]func(*Config[int64, string]){
		"needs Topic, Key and Load": func(c *Config[int64, string]) { c.Topic = "" },
		"needs Topic, Key and load": func(c *Config[int64, string]) { c.Load = nil },
		"needs Topic, key and Load": func(c *Config[int64, string]) { c.Key = nil },
		"must not be negative":      func(c *Config[int64, string]) { c.Max = -1 },
		"is not known":              func(c *Config[int64, string]) { c.Outage = 7 },
		"invalid topic":             func(c *Config[int64, string]) { c.Topic = "\x00" },
	} {
		cfg := good
		spoil(&cfg)
		_, err := New(pgtest.Within(t), hub, cfg)
		require.Regexp(t, "(?i)"+want, err)
	}
}

// Rows knows what triggers and Notify send.
func TestRows(t *testing.T) {
	for payload, want := range map[string][]int64{
		"e1":         {1},
		"e1,2,3":     {1, 2, 3},
		`e1:{"x":5}`: {1},
		`e7:{"op":"update","schema":"public","table":"p","id":{"id":7}}`:                                    {7},
		`e7:{"op":"update","schema":"public","table":"p","old_key":[6]}`:                                    {7, 6},
		`e1,2:{"op":"delete","schema":"public","table":"p","count":2,"part":1,"parts":1}`:                   {1, 2},
		`e1,2:{"op":"delete","schema":"public","table":"p","count":1,"part":1,"parts":1,"width":2}`:         nil,
		`e:{"op":"update","schema":"public","table":"p"}`:                                                   nil,
		`e:{"op":"update","schema":"public","table":"p","count":1,"part":1,"parts":1,"ids":[{"name":"x"}]}`: nil,
		`e:{"op":"truncate","schema":"public","table":"p"}`:                                                 nil,
		`e:{"op":"unmute","schema":"public","table":"p"}`:                                                   nil,
	} {
		ev := &pghub.Event{Topic: "p", Payload: []byte(payload)}
		require.NoError(t, pghub.KeyValueCodec{}.Decode(ev))
		got, err := Rows(ev)
		if want == nil {
			require.ErrorIs(t, err, ErrAll, payload)
		} else {
			require.NoError(t, err, payload)
			require.Equal(t, want, got, payload)
		}
	}
}

// Reads, loads and events beside each other, for the race detector.
func TestConcurrentUse(t *testing.T) {
	srv := pghubtest.New(t)
	hub := srv.Hub()
	tb := newTable(map[int64]string{1: "one", 2: "two"})
	cache, err := New(pgtest.Within(t), hub, Config[int64, string]{Topic: "rows", Key: Rows, Load: tb.load, LoadAll: tb.loadAll, Loads: 2})
	require.NoError(t, err)
	defer cache.Close()
	var group sync.WaitGroup
	for n := range int64(8) {
		group.Go(func() {
			for i := range int64(200) {
				switch {
				case n == 0:
					_ = hub.Notify(context.Background(), "rows", []int64{i % 4}, nil)
				case n == 1 && i%50 == 0:
					srv.Disconnect()
				case n == 2:
					cache.Invalidate(i % 4)
				case n == 3:
					_ = cache.Stats()
					for range cache.All() {
					}
				default:
					if _, err := cache.GetAll(context.Background(), []int64{i % 4, i % 3}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
}
