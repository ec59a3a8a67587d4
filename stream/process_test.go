package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// forEver is a lease that no test outlives: what happens within it, happens at once.
const forEver = time.Hour

// awaitSleep waits until the sequencer sleeps.
func (l *lab) awaitSleep() {
	l.t.Helper()
	eventually(l.t, "the sequencer sleeps", func() bool {
		return one[bool](l, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 1 AND l.mode = 'ExclusiveLock' AND l.granted)`)
	})
}

func TestTheSleepingSequencerIsWoken(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	for n := 1; n <= 3; n++ {
		l.awaitSleep()
		l.publish("a", n)
		saw.await(t, numbers("a", 1, n)...)
	}
	// A transaction that stays open keeps it awake, and delays nobody else's events.
	tx, err := l.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, l.s.PublishTx(t.Context(), tx, "a", nil, 5))
	l.publish("a", 4)
	saw.await(t, numbers("a", 1, 4)...)
	require.NoError(t, tx.Commit(t.Context()))
	saw.await(t, numbers("a", 1, 5)...)
}

// Without a bell no writer sends a NOTIFY, so that it may prepare its transaction.
func TestWithoutTheBell(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	l.awaitSleep()
	l.do(`SELECT pghub.configure(bell => false)`)
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	eventually(t, "the sequencer is awake", func() bool {
		return !one[bool](l, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND mode = 'ExclusiveLock')`)
	})
	l.publish("a", 1)
	saw.await(t, "a 1")
}

// What one process gives up, another one has at once, and does not wait for the lease to end.
func TestAnotherProcessTakesOverAtOnce(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	first := newSeen()
	_, err := l.s.Durable(t.Context(), "d", first.handle, nil)
	require.NoError(t, err)
	l.publish("a", 1)
	first.await(t, "a 1")
	old := l.hub
	l.join(stream.Config{Lease: forEver})
	second := newSeen()
	d, err := l.s.Durable(t.Context(), "d", second.handle, nil)
	require.NoError(t, err)
	require.False(t, d.Stats().Working)
	require.NoError(t, old.Stop(t.Context()))
	l.publish("a", 2)
	second.await(t, "a 2")
	require.True(t, d.Stats().Working)
	require.Equal(t, []string{"a 1"}, first.all())
}

// What an owner may have died of is counted before it is tried.
func TestAnEventThatEndsTheProcessIsParked(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1, 2)
	token := one[int64](l, `SELECT token FROM pghub.attach('d', 'dead', '1 hour', NULL, 'earliest')`)
	var counted atomic.Int64
	run := func(attempts int) []string {
		t.Helper()
		l.do(`UPDATE pghub.consumers SET owner = 'dead', until = now() - interval '1 second', token = $1`, token)
		saw := newSeen()
		d, err := l.s.Durable(t.Context(), "d", func(ctx context.Context, ev *pghub.Event) error {
			if string(ev.Value) == "1" {
				counted.Store(int64(one[int](l, `SELECT attempts FROM pghub.attempts`)))
				<-ctx.Done() // as if the process ended here
				return ctx.Err()
			}
			return saw.handle(ctx, ev)
		}, &stream.DurableConfig{MaxAttempts: 2})
		require.NoError(t, err)
		if attempts <= 2 {
			eventually(t, "the attempt is counted", func() bool { return counted.Load() == int64(attempts) })
		} else {
			saw.await(t, "a 2")
		}
		d.Close()
		<-d.Done()
		return saw.all()
	}
	require.Empty(t, run(1))
	require.Empty(t, run(2))
	require.Equal(t, []string{"a 2"}, run(3))
	require.Contains(t, one[string](l, `SELECT error FROM pghub.stream_parked`), "did not live to say")
}

// Who was away for longer than events are kept is told, and goes on with what there is.
func TestResyncAfterTheRetention(t *testing.T) {
	l := newLab(t, stream.Config{})
	saw := newSeen()
	var gaps []stream.Gap
	failed := false
	cfg := &stream.DurableConfig{RetryMin: time.Millisecond, Resync: func(_ context.Context, gap stream.Gap) error {
		if !failed {
			failed = true
			return errors.New("not yet")
		}
		gaps = append(gaps, gap)
		return nil
	}}
	d, err := l.s.Durable(t.Context(), "d", saw.handle, cfg)
	require.NoError(t, err)
	l.publish("a", 1)
	saw.await(t, "a 1")
	require.NoError(t, d.Stop(t.Context()))
	l.publish("a", 2) // will be missed
	for n := 3; n <= 6; n++ {
		l.do(`SELECT pghub.tick()`)
		l.do(`UPDATE pghub.ticks SET at = at - interval '37 hours'`)
		l.do(`SELECT pghub.rotate()`)
		l.publish("a", n)
	}
	from := d.Position()
	d, err = l.s.Durable(t.Context(), "d", saw.handle, cfg)
	require.NoError(t, err)
	eventually(t, "the last event", func() bool { words := saw.all(); return words[len(words)-1] == "a 6" })
	require.Len(t, gaps, 1)
	require.Equal(t, from, gaps[0].From)
	require.False(t, gaps[0].Foreign)
	require.NotContains(t, saw.all(), "a 2")
	require.EqualValues(t, 1, d.Stats().Resyncs)

	var missing *stream.GapError
	for _, err := range l.s.Read(t.Context(), stream.At(from)) {
		require.ErrorAs(t, err, &missing)
	}
	require.NotNil(t, missing)
	for _, err := range l.s.Read(t.Context(), stream.At(pghub.Position{Tick: from.Tick + 1<<40, Txn: 1, ID: 1})) {
		require.ErrorAs(t, err, &missing)
	}
	require.True(t, missing.Gap.Foreign)
}

func TestSeekHasItBeginAnew(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	l.publish("a", 1, 2)
	saw.await(t, "a 1", "a 2")
	l.do(`SELECT pghub.seek('d', 'earliest')`)
	saw.await(t, "a 1", "a 2", "a 1", "a 2")
	require.EqualValues(t, 2, one[int](l, `SELECT pghub.replay('d', now() - interval '1 hour')`))
	saw.await(t, "a 1", "a 2", "a 1", "a 2", "a 1", "a 2")
	eventually(t, "they are gone", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 0 })
}

// Ordinary consumers of live topics miss nothing when all connections are lost, and so are not asked to resync.
func TestLiveTopicsHaveNoGap(t *testing.T) {
	l := newLab(t, stream.Config{Live: []string{"a"}})
	saw := newSeen()
	var resyncs atomic.Int64
	back := make(chan struct{}, 1)
	_, err := l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		switch {
		case ev.Advisory == nil:
			saw.add(ev)
		case ev.Advisory.Action == pghub.ActionReconnect:
			back <- struct{}{}
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}, Resync: func(context.Context, pghub.Gap) error {
		resyncs.Add(1)
		return nil
	}})
	require.NoError(t, err)
	n := 0
	for range 3 {
		n++
		l.publish("a", n)
		l.do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pghub%'`)
		n++
		l.publish("a", n)
		<-back
	}
	saw.await(t, numbers("a", 1, n)...)
	require.Zero(t, resyncs.Load())
}

func TestPublish(t *testing.T) {
	l := newLab(t, stream.Config{})
	for _, topic := range []string{"", strings.Repeat("x", 64), "a\x00", "\xff"} {
		require.ErrorIs(t, l.s.Publish(t.Context(), topic, nil, nil), pghub.ErrTopic)
	}
	require.NoError(t, l.s.Publish(t.Context(), strings.Repeat("x", 63), nil, nil))
	require.ErrorIs(t, l.s.Publish(t.Context(), "a", nil, func() {}), pghub.ErrValue)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.s.Publish(ended, "a", nil, nil), context.Canceled)

	large := strings.Repeat("\u0000<é", 700_000) // 10 MB of JSON
	require.NoError(t, l.s.Publish(t.Context(), "large", []int64{-1 << 63, 1<<63 - 1}, large))
	tx, err := l.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, l.s.PublishTx(t.Context(), tx, "large", nil, "rolled back"))
	require.NoError(t, tx.Rollback(t.Context()))
	var all sync.WaitGroup
	for n := range 500 {
		all.Go(func() {
			if err := l.s.Publish(t.Context(), "many", []int64{int64(n)}, n); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, "all are there", func() bool { return len(collect(t, l, stream.Earliest, "many")) == 500 })
	for ev, err := range l.s.Read(t.Context(), stream.Earliest, "large") {
		require.NoError(t, err)
		got, err := pghub.Decode[string](ev)
		require.NoError(t, err)
		require.True(t, got == large)
		require.Equal(t, []int64{-1 << 63, 1<<63 - 1}, ev.Key)
	}
	require.NoError(t, l.hub.Stop(t.Context()))
	require.ErrorIs(t, l.s.Publish(t.Context(), "a", nil, nil), pghub.ErrStopped)
	<-l.s.Done()
	_, err = l.s.Durable(t.Context(), "d", newSeen().handle, nil)
	require.Error(t, err)
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	_, err = stream.Open(t.Context(), hub, stream.Config{})
	require.ErrorIs(t, err, stream.ErrNotInstalled)
	require.NoError(t, sql.Install(t.Context(), pool))
	for _, cfg := range []stream.Config{{Lease: time.Millisecond}, {Retain: -1}, {Live: []string{""}}} {
		_, err = stream.Open(t.Context(), hub, cfg)
		require.Error(t, err)
	}
	s, err := stream.Open(t.Context(), hub, stream.Config{Retain: 48 * time.Hour})
	require.NoError(t, err)
	for _, cfg := range []stream.DurableConfig{
		{Lanes: -1}, {Lanes: 2000}, {RetryMin: -1}, {RetryMin: 2, RetryMax: 1}, {Lease: 1}, {Batch: -1}, {Batch: 20000}, {Poison: 7}, {Topics: []string{""}},
	} {
		_, err := s.Durable(t.Context(), "d", newSeen().handle, &cfg)
		require.Error(t, err, cfg)
	}
	for _, name := range []string{"", strings.Repeat("x", 64)} {
		_, err := s.Durable(t.Context(), name, newSeen().handle, nil)
		require.ErrorContains(t, err, "1 to 63 bytes")
	}
	_, err = s.Durable(t.Context(), "d", nil, nil)
	require.ErrorContains(t, err, "handler is nil")
	require.NoError(t, hub.Stop(t.Context()))
	var retain time.Duration
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT retain FROM pghub.stream`).Scan(&retain))
	require.Equal(t, 48*time.Hour, retain)
	_, err = stream.Open(t.Context(), hub, stream.Config{})
	require.ErrorIs(t, err, pghub.ErrStopped)
}

func TestStats(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	d, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	l.publish("a", 1, 2)
	require.Error(t, l.s.Publish(t.Context(), "", nil, nil))
	saw.await(t, "a 1", "a 2")
	eventually(t, "the sequencer sleeps, and both events are acknowledged", func() bool { return l.s.Stats().Sleeps > 0 && d.Stats().Delivered == 2 })
	st := l.s.Stats()
	require.True(t, st.Sequencer)
	require.NotZero(t, st.PID)
	require.NotZero(t, st.Ticks)
	require.Zero(t, st.Lost)
	require.EqualValues(t, 2, st.Published)
	require.EqualValues(t, 2, st.PublishBatches)
	require.Zero(t, st.PublishErrors)
	require.Len(t, st.Durables, 1)
	require.Equal(t, "d", st.Durables[0].Name)
	require.EqualValues(t, 2, st.Durables[0].Delivered)
	require.NoError(t, d.Stop(t.Context()))
	require.Empty(t, l.s.Stats().Durables)
	l.do(`SELECT pg_terminate_backend($1)`, st.PID)
	eventually(t, "it is back", func() bool { now := l.s.Stats(); return now.Lost > 0 && now.PID != 0 && now.PID != st.PID })
}

// Consumers leave the stream's list while it is gone through: the race detector notices where that is not safe.
func TestAStreamWithManyConsumersStops(t *testing.T) {
	l := newLab(t, stream.Config{})
	var all []*stream.Durable
	for i := range 8 {
		d, err := l.s.Durable(t.Context(), fmt.Sprint("d", i), newSeen().handle, nil)
		require.NoError(t, err)
		all = append(all, d)
	}
	for _, d := range all[:4] {
		go d.Close()
	}
	require.NoError(t, l.hub.Stop(t.Context()))
	for _, d := range all {
		<-d.Done()
	}
}
