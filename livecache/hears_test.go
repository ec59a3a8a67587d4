package livecache

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// A topic of stream.Config.Live has no gap at a lost connection, so there is no Resync: the cache goes on all the same.
func TestLiveTopicGoesOnBehindAnOutage(t *testing.T) {
	for name, outage := range map[string]Outage{"ServeCached": ServeCached, "LoadThrough": LoadThrough} {
		t.Run(name, func(t *testing.T) {
			pool := pgtest.Pool(t, pgtest.Database(t))
			require.NoError(t, sql.Install(pgtest.Within(t), pool))
			hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: time.Millisecond})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, hub.Stop(pgtest.Within(t))) })
			require.NoError(t, hub.Start(pgtest.Within(t)))
			s, err := stream.Open(pgtest.Within(t), hub, stream.Config{Live: []string{"rows"}})
			require.NoError(t, err)

			records := make(chan *pghub.Record, 10)
			rows := newTable(map[int64]string{1: "one"})
			cache, err := New(pgtest.Within(t), hub, Config[int64, string]{Topic: "rows", Load: rows.load, Outage: outage, Key: func(ev *pghub.Event) ([]int64, error) {
				records <- ev.Record
				return Rows(ev)
			}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, cache.Close()) })
			<-cache.Ready()
			f := &fixture{t: t, hub: hub, table: rows, cache: cache}
			f.get(1, "one", "[[1]]")
			f.get(1, "one", none)

			_, err = pool.Exec(pgtest.Within(t), `SELECT pg_terminate_backend($1)`, hub.Stats().PID)
			require.NoError(t, err)
			require.Eventually(t, func() bool { st := cache.Stats(); return st.Outages == 1 && st.Live }, 20*time.Second, time.Millisecond)

			rows.set(1, "uno")
			require.NoError(t, s.Publish(pgtest.Within(t), "rows", []int64{1}, nil))
			record := <-records
			require.NotNil(t, record, "Key sees what a stream's event has")
			require.NotZero(t, record.Position)
			require.Eventually(t, func() bool { return cache.Stats().Invalidations == 1 }, 20*time.Second, time.Millisecond)
			rows.loaded()
			f.get(1, "uno", "[[1]]")
			f.get(1, "uno", none)
		})
	}
}

// ResyncEvery goes on in an outage. That does not end it.
func TestResyncEveryIsNoReconnection(t *testing.T) {
	for _, outage := range []Outage{ServeCached, LoadThrough} {
		bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.ResyncEvery, cfg.Outage = time.Minute, outage }, func(t *testing.T, f *fixture) {
			f.get(1, "one", "[[1]]")
			f.srv.Down()
			f.srv.Disconnect()
			time.Sleep(90 * time.Second)
			synctest.Wait()
			require.False(t, f.cache.Stats().Live)
			f.table.set(1, "uno")
			f.get(1, "uno", "[[1]]")
			f.table.set(1, "eins")
			if outage == LoadThrough {
				f.get(1, "eins", "[[1]]")
			} else {
				f.get(1, "uno", none)
			}
			f.srv.Up()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.True(t, f.cache.Stats().Live)
			f.table.loaded()
			f.get(1, "eins", "[[1]]")
			f.get(1, "eins", none)
		})
	}
}

// ResyncEvery does not put a topic into effect.
func TestResyncEveryIsNoBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		srv.Down()
		hub, err := pghub.New(srv.Config())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		tb := newTable(map[int64]string{1: "one"})
		f := &fixture{t: t, srv: srv, hub: hub, table: tb}
		f.cache, err = New(pgtest.Within(t), hub, Config[int64, string]{Topic: "rows", Key: Rows, Load: tb.load, ResyncEvery: time.Minute})
		require.NoError(t, err)
		go func() { ended <- hub.Run(ctx) }()
		time.Sleep(150 * time.Second)
		synctest.Wait()
		select {
		case <-f.cache.Ready():
			require.Fail(t, "ready without a connection")
		default:
		}
		require.False(t, f.cache.Stats().Live)
		f.get(1, "one", "[[1]]")
		f.get(1, "one", "[[1]]")

		srv.Up()
		<-f.cache.Ready()
		f.get(1, "one", "[[1]]")
		f.get(1, "one", none)
		require.True(t, f.cache.Stats().Live)
		require.NoError(t, f.cache.Close())
		cancel()
		require.NoError(t, <-ended)
	})
}

// What ResyncEvery drops is no sign of trouble, and is not counted among what is.
func TestResyncEveryIsNotCountedAsDrops(t *testing.T) {
	for _, outage := range []Outage{ServeCached, LoadThrough} {
		bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.ResyncEvery, cfg.Outage = time.Minute, outage }, func(t *testing.T, f *fixture) {
			require.EqualValues(t, 1, f.cache.Stats().Drops, "in the beginning")
			f.get(1, "one", "[[1]]")
			time.Sleep(10*time.Minute + time.Second)
			synctest.Wait()
			require.EqualValues(t, 1, f.cache.Stats().Drops)
			f.table.set(1, "uno")
			time.Sleep(time.Minute)
			synctest.Wait()
			f.get(1, "uno", "[[1]]")

			f.srv.Down()
			f.srv.Disconnect()
			synctest.Wait()
			lost := f.cache.Stats().Drops
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			require.Equal(t, lost, f.cache.Stats().Drops)
			f.srv.Up()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, lost+1, f.cache.Stats().Drops, "at the gap")
		})
	}
}

// A gap that a publisher announces is none of Key's business: it is about everything.
func TestAnnouncedGapIsNotForKey(t *testing.T) {
	for _, payload := range []string{`e:{"pghub":"gap"}`, `e:{"pghub":"gap","since":"2026-01-02T03:04:05Z"}`} {
		var seen []string // by Key; owned by the cache's goroutine, read when the bubble waits
		bubble(t, func(_ *fixture, cfg *Config[int64, string]) {
			cfg.Key = func(ev *pghub.Event) ([]int64, error) {
				seen = append(seen, string(ev.Payload))
				return nil, errors.New("not understood")
			}
		}, func(t *testing.T, f *fixture) {
			f.get(1, "one", "[[1]]")
			f.publish(payload)
			f.get(1, "one", "[[1]]")
			f.get(1, "one", none)
			require.Empty(t, seen)
			require.Empty(t, f.errs)
			require.Zero(t, f.cache.Stats().Misunderstood)
			f.publish(`e:{"pghub":"gaps"}`)
			require.Len(t, seen, 1)
			require.Len(t, f.errs, 1)
		})
	}
}

// A topic that the server refuses when the connection is back is in an outage still.
func TestRefusedTopicIsNotLive(t *testing.T) {
	for _, outage := range []Outage{ServeCached, LoadThrough} {
		bubble(t, func(_ *fixture, cfg *Config[int64, string]) { cfg.Outage = outage }, func(t *testing.T, f *fixture) {
			f.srv.Refuse(func(sql string) error {
				if strings.Contains(sql, "LISTEN") {
					return errors.New("not this one")
				}
				return nil
			})
			f.srv.Disconnect()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.EqualValues(t, 1, f.hub.Stats().Reconnects)
			require.False(t, f.cache.Stats().Live)
			f.get(1, "one", "[[1]]")
			if outage == LoadThrough {
				f.get(1, "one", "[[1]]")
			} else {
				f.get(1, "one", none)
			}
			f.srv.Refuse(nil)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			require.True(t, f.cache.Stats().Live)
			f.get(1, "one", "[[1]]")
			f.get(1, "one", none)
		})
	}
}
