package stream_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// A program that halted, and was mended, goes on. One that was not tries once more.
func TestHaltLeavesATry(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1, 2)
	cfg := &stream.DurableConfig{Poison: stream.Halt, MaxAttempts: 3, RetryMin: time.Millisecond, RetryMax: time.Millisecond}
	for _, attempts := range []int64{3, 1, 1} {
		var tries atomic.Int64
		d, err := l.s.Durable(t.Context(), "d", func(context.Context, *pghub.Event) error {
			tries.Add(1)
			return errors.New("a bug")
		}, cfg)
		require.NoError(t, err)
		<-d.Done()
		require.ErrorIs(t, d.Err(), stream.ErrHalted)
		require.ErrorContains(t, d.Err(), "a bug")
		require.Equal(t, attempts, tries.Load())
	}
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, cfg)
	require.NoError(t, err)
	saw.await(t, numbers("a", 1, 2)...)
}

// The server ends the transaction of a handler that takes longer than the lease. Nobody hears of an error; the attempts count all the same.
func TestAHandlerThatOutlastsTheLeaseIsParked(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", upTo(4)...)
	saw := newSeen()
	d, err := l.s.DurableTx(t.Context(), "d", func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if string(ev.Value) == "2" {
				for alive := true; alive && ctx.Err() == nil; { // until the server has ended its transaction
					err := l.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, tx.Conn().PgConn().PID()).Scan(&alive)
					if err != nil {
						return err
					}
				}
				return nil // it takes itself for done
			}
		}
		for _, ev := range events {
			saw.add(ev)
		}
		return nil
	}, &stream.DurableConfig{MaxAttempts: 2, RetryMin: time.Millisecond, RetryMax: time.Millisecond, Lease: time.Second})
	require.NoError(t, err)
	saw.await(t, "a 1", "a 3", "a 4")
	require.EqualValues(t, 1, d.Stats().Parked)
}

// An event is parked together with the position of who may not do it twice: it cannot come again, and be unparked too.
func TestWhatIsParkedDoesNotComeAgain(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1)
	_, err := l.s.DurableTx(t.Context(), "d", func(context.Context, pgx.Tx, []*pghub.Event) error {
		return stream.Skip(errors.New("no good"))
	}, &stream.DurableConfig{Lease: forEver}) // nothing else stores the position
	require.NoError(t, err)
	eventually(t, "it is parked", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 1 })
	require.True(t, one[bool](l, `SELECT (c.tick, c.txn, c.id) >= (p.tick, p.txn, p.id) FROM pghub.consumers c, pghub.parked p`))
}

// Who attaches while the consumer is being forgotten finds none, and makes it anew.
func TestForgetWhileSomebodyAttaches(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.do(`SELECT pghub.attach('d', 'somebody', '1 hour', NULL, 'earliest')`)
	tx, err := l.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pghub.forget('d')`)
	require.NoError(t, err)
	saw, made := newSeen(), make(chan error, 1)
	go func() {
		_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
		made <- err
	}()
	eventually(t, "it waits", func() bool {
		return one[bool](l, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%pghub.attach%')`)
	})
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-made)
	l.publish("a", 1)
	saw.await(t, "a 1")
}

// A process that stops gives the sequencer's lease up, whatever it is doing.
func TestStopGivesTheLeaseUp(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	require.NoError(t, l.hub.Stop(t.Context()))
	for range 20 {
		hub, err := pghub.New(pghub.Config{Pool: l.pool})
		require.NoError(t, err)
		s, err := stream.Open(t.Context(), hub, stream.Config{Lease: forEver})
		require.NoError(t, err)
		eventually(t, "it leads", func() bool { return s.Stats().Sequencer })
		for n := range 3 {
			require.NoError(t, s.Publish(t.Context(), "a", nil, n)) // it is looking, or making a tick, now
		}
		require.NoError(t, hub.Stop(t.Context()))
		require.Zero(t, one[int](l, `SELECT count(*) FROM pghub.leases WHERE until > now()`))
	}
}

// A server that was set back, as by a failover that has lost commits, has nothing that is news but what comes then.
func TestLiveGoesOnBehindAFailover(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver, Live: []string{"a"}})
	l.publish("a", 1, 2)
	l.awaitSleep()
	saw, gaps := newSeen(), make(chan pghub.Gap, 10)
	_, err := l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			saw.add(ev)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}, Resync: func(_ context.Context, gap pghub.Gap) error {
		gaps <- gap
		return nil
	}})
	require.NoError(t, err)
	l.publish("a", 3)
	saw.await(t, "a 3")
	l.awaitSleep()
	l.do(`DELETE FROM pghub.ticks WHERE tick = (SELECT max(tick) FROM pghub.ticks)`) // as if event 3 had never been
	l.do(`DELETE FROM pghub.log WHERE value = '3'`)
	l.publish("a", 4) // its tick is what is found missing; whether 4 comes by itself or by Resync
	var gap *stream.GapError
	require.ErrorAs(t, (<-gaps).Err, &gap)
	require.True(t, gap.Gap.Foreign)
	l.publish("a", 5)
	eventually(t, "it goes on", func() bool { words := saw.all(); return words[len(words)-1] == "a 5" })
	require.NotContains(t, saw.all()[1:], "a 1")
	require.NotContains(t, saw.all()[1:], "a 2")
}
