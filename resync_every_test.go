package pghub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// resyncs is a Resync that notes when it was called, in the time of a bubble.
type resyncs struct {
	diary
	began time.Time
	fail  atomic.Bool
}

func newResyncs() *resyncs { return &resyncs{began: time.Now()} }

func (r *resyncs) resync(_ context.Context, gap Gap) error {
	r.note("%v %t", time.Since(r.began).Round(time.Second), gap != Gap{})
	if r.fail.Load() {
		return errors.New("not now")
	}
	return nil
}

// consume makes a consumer with this Resync; its events are noted too.
func (r *resyncs) consume(t *testing.T, hub *Hub, cfg ConsumerConfig) *Consumer {
	t.Helper()
	cfg.Topics, cfg.Resync = []string{"a"}, r.resync
	c, err := hub.Consumer(within(t), func(_ context.Context, ev *Event) {
		if ev.Advisory == nil {
			r.note("%v %s", time.Since(r.began).Round(time.Second), eventWord(ev))
		}
	}, &cfg)
	require.NoError(t, err)
	return c
}

// Resync is called in each period, and not before Start; a period begins where it last succeeded; an outage changes nothing; and the
// end of the consumer ends it.
func TestResyncEvery(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, r := fakeHub(t, server, Config{ProbeInterval: -1, ReconnectMin: 40 * time.Second, ReconnectMax: 40 * time.Second}), newResyncs()
		c := r.consume(t, hub, ConsumerConfig{ResyncFirst: true, ResyncEvery: time.Minute})
		time.Sleep(90 * time.Second)
		require.Empty(t, r.all())
		startHub(t, hub) // at 1m30s
		time.Sleep(time.Minute + time.Second)
		require.Equal(t, []string{"1m30s false", "2m30s false"}, r.all())

		server.HangDials(true)
		server.Kill() // at 2m31s
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"3m30s false", "4m30s false"}, r.all()[2:])

		require.NoError(t, c.Close())
		time.Sleep(10 * time.Minute)
		require.Len(t, r.all(), 4)
		server.HangDials(false)
	})
}

// A Resync at a gap counts, and one that fails is tried again as any other is.
func TestResyncEveryBeginsAnew(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, r := fakeHub(t, server, Config{ProbeInterval: -1, ReconnectMin: time.Millisecond, ReconnectMax: time.Second}), newResyncs()
		r.consume(t, hub, ConsumerConfig{ResyncEvery: time.Minute})
		startHub(t, hub)
		time.Sleep(30 * time.Second)
		server.Kill()
		synctest.Wait()
		time.Sleep(59 * time.Second)
		require.Equal(t, []string{"30s true"}, r.all())
		r.fail.Store(true)
		time.Sleep(2 * time.Second)
		require.Equal(t, "1m30s false", r.all()[1])
		require.Greater(t, len(r.all()), 5, "it is tried again")
		r.fail.Store(false)
		time.Sleep(2 * time.Second)
		n := len(r.all())
		time.Sleep(50 * time.Second)
		require.Len(t, r.all(), n)
	})
}

// At a gap Resync waits for a random part of the jitter, with the events behind it; the first call does not, and periods
// become longer by it.
func TestResyncJitter(t *testing.T) {
	var waits, periods []time.Duration
	for range 5 {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{ProbeInterval: -1, ReconnectMin: time.Millisecond, ReconnectMax: time.Hour})
			var mu sync.Mutex
			var moments []time.Time // of calls
			var event time.Time
			_, err := hub.Consumer(within(t), func(_ context.Context, ev *Event) {
				mu.Lock()
				defer mu.Unlock()
				if ev.Advisory == nil {
					event = time.Now()
				}
			}, &ConsumerConfig{
				Topics: []string{"a"}, ResyncFirst: true, ResyncEvery: 24 * time.Hour, ResyncJitter: time.Hour,
				Resync: func(context.Context, Gap) error {
					mu.Lock()
					defer mu.Unlock()
					moments = append(moments, time.Now())
					return nil
				},
			})
			require.NoError(t, err)
			seen := func() (calls []time.Time, ev time.Time) {
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(moments), event
			}
			startHub(t, hub)
			calls, _ := seen()
			require.Len(t, calls, 1)
			require.Zero(t, time.Since(calls[0]))
			server.Kill()
			passing(t, time.Millisecond, func() bool { return hub.Stats().Reconnects == 1 })
			lost := time.Now()
			server.Notify("a", "e")
			time.Sleep(time.Hour)
			calls, came := seen()
			require.Len(t, calls, 2)
			require.False(t, came.Before(calls[1]), "events wait for it")
			waits = append(waits, calls[1].Sub(lost))
			time.Sleep(25 * time.Hour)
			calls, _ = seen()
			require.Len(t, calls, 3)
			periods = append(periods, calls[2].Sub(calls[1]))
		})
	}
	requireSpread(t, waits, 0)
	requireSpread(t, periods, 24*time.Hour)
}

// requireSpread requires random times between a lowest one and an hour more.
func requireSpread(t *testing.T, times []time.Duration, lowest time.Duration) {
	t.Helper()
	different := make(map[time.Duration]bool)
	for _, d := range times {
		require.GreaterOrEqual(t, d, lowest-time.Second)
		require.LessOrEqual(t, d, lowest+time.Hour)
		different[d.Round(time.Second)] = true
	}
	require.Greater(t, len(different), 2, "%v", times)
}

// No more than ResyncLimit calls run at a time, whichever consumers they are of, and all of them come to run, also when one panics.
func TestResyncLimit(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ResyncLimit: 2})
		var running, most, calls atomic.Int64
		for n := range 7 {
			failed := false
			_, err := hub.Consumer(within(t), func(context.Context, *Event) {}, &ConsumerConfig{Topics: []string{"a"}, ResyncFirst: true, Resync: func(context.Context, Gap) error {
				if now := running.Add(1); now > most.Load() {
					most.Store(now)
				}
				defer running.Add(-1)
				time.Sleep(time.Second)
				calls.Add(1)
				if n == 0 && !failed {
					failed = true
					panic("no good")
				}
				return nil
			}})
			require.NoError(t, err)
		}
		startHub(t, hub)
		passing(t, time.Second, func() bool { return calls.Load() == 8 })
		require.EqualValues(t, 2, most.Load())
	})
}

// Who waits for a place leaves when the consumer is closed.
func TestResyncLimitEnds(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ResyncLimit: 1})
		hub.resyncs <- struct{}{} // taken for ever
		r := newResyncs()
		c := r.consume(t, hub, ConsumerConfig{ResyncFirst: true})
		startHub(t, hub)
		synctest.Wait()
		require.NoError(t, c.Close())
		<-c.Done()
		require.Empty(t, r.all())
	})
}

// A hub that only polls needs no server: Resync is called in the beginning and in each period. Nothing is ever lost.
func TestPollOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, err := New(Config{PollOnly: true})
		require.NoError(t, err)
		r := newResyncs()
		w, _ := watch(t, hub, "b")
		r.consume(t, hub, ConsumerConfig{ResyncFirst: true, ResyncEvery: time.Minute})
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("b"))
		late, c := watch(t, hub, "c")
		late.expect(t, lineSubscribe("c"))
		require.NoError(t, c.Unsubscribe(within(t), "c"))
		time.Sleep(2*time.Minute + time.Second)
		require.Equal(t, []string{"0s false", "1m0s false", "2m0s false"}, r.all())
		require.Equal(t, StateListening, hub.State())
		require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), ErrNoPool)
		require.NoError(t, hub.Stop(within(t)))
		w.expect(t, lineStop)
		require.Zero(t, hub.Stats().Reconnects)
	})
}

// It publishes as ever, and opens no connection of its own.
func TestPollOnlyPublishes(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub := realHub(t, Config{Pool: pool, PollOnly: true})
	startHub(t, hub)
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	_, err := hub.Check(within(t))
	require.ErrorIs(t, err, ErrNotHeard)
	var listeners int
	err = pool.QueryRow(within(t), `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pghub%' AND datname = current_database()`).Scan(&listeners)
	require.NoError(t, err)
	require.Zero(t, listeners)
}

func TestResyncConfigNamesWhatIsWrong(t *testing.T) {
	_, err := New(Config{PollOnly: true, ResyncLimit: -1})
	require.ErrorContains(t, err, "ResyncLimit")
	listen, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	hub, err := New(Config{ListenConfig: listen})
	require.NoError(t, err)
	for _, cfg := range []ConsumerConfig{{ResyncEvery: 1}, {ResyncJitter: 1}} {
		_, err = hub.Consumer(within(t), newWitness().handle, &cfg)
		require.ErrorContains(t, err, "need a Resync")
	}
	for _, cfg := range []ConsumerConfig{{ResyncEvery: -1}, {ResyncJitter: -1}} {
		cfg.Resync = func(context.Context, Gap) error { return nil }
		_, err = hub.Consumer(within(t), newWitness().handle, &cfg)
		require.ErrorContains(t, err, "must not be negative")
	}
}

// A Resync that fails is tried again after the backoff; the jitter is for the first attempt at a gap.
func TestResyncJitterIsNotRepeated(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, r := fakeHub(t, server, Config{ProbeInterval: -1, ReconnectMin: time.Second, ReconnectMax: time.Second}), newResyncs()
		r.fail.Store(true)
		r.consume(t, hub, ConsumerConfig{ResyncJitter: 10 * time.Hour})
		startHub(t, hub)
		server.Kill()
		passing(t, time.Minute, func() bool { return len(r.all()) > 0 })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Greater(t, len(r.all()), 9)
		r.fail.Store(false)
	})
}

// Who waits long for Start has its first period then.
func TestResyncEveryOfALateStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, r := fakeHub(t, server, Config{ProbeInterval: -1}), newResyncs()
		r.consume(t, hub, ConsumerConfig{ResyncEvery: time.Minute})
		time.Sleep(time.Hour + time.Second)
		startHub(t, hub)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"1h1m0s false"}, r.all())
	})
}
