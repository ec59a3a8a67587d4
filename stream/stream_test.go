package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

func collect(t *testing.T, l *lab, from stream.Start, topics ...string) (words []string) {
	t.Helper()
	for ev, err := range l.s.Read(t.Context(), from, topics...) {
		require.NoError(t, err)
		words = append(words, word(ev))
	}
	return words
}

func TestPublishedEventsCanBeRead(t *testing.T) {
	l := newLab(t, stream.Config{})
	require.NoError(t, l.s.Publish(t.Context(), "a", []int64{1, 2}, map[string]int{"x": 1}, stream.WithHeaders(map[string]string{"h": "v"})))
	require.NoError(t, l.s.Publish(t.Context(), "a", nil, nil))
	l.do(`SELECT pghub.publish('b', 7, '"text"')`)
	eventually(t, "a tick", func() bool { return len(collect(t, l, stream.Earliest)) == 3 })
	var events []*pghub.Event
	for ev, err := range l.s.Read(t.Context(), stream.Earliest) {
		require.NoError(t, err)
		events = append(events, ev)
	}
	require.Equal(t, []int64{1, 2}, events[0].Key)
	require.JSONEq(t, `{"x":1}`, string(events[0].Value))
	require.Equal(t, `e1,2:{"x":1}`, string(events[0].Payload))
	require.Equal(t, map[string]string{"h": "v"}, events[0].Record.Headers)
	require.Nil(t, events[1].Value)
	require.Equal(t, "e", string(events[1].Payload))
	require.WithinDuration(t, time.Now(), events[2].Record.Time, time.Hour)
	require.Equal(t, []string{`b "text"`}, collect(t, l, stream.Earliest, "b"))
	require.Equal(t, []string{`b "text"`}, collect(t, l, stream.At(events[1].Record.Position)))
	require.Empty(t, collect(t, l, stream.Latest))
}

// Each start has a position, from which what a reader of that start gets is read.
func TestLocate(t *testing.T) {
	l := newLab(t, stream.Config{})
	locate := func(start stream.Start) pghub.Position {
		t.Helper()
		at, err := l.s.Locate(t.Context(), start)
		require.NoError(t, err)
		return at
	}
	begin := locate(stream.Latest)
	l.publish("a", 1, 2)
	middle := locate(stream.Latest)
	require.Positive(t, middle.Compare(begin), "what was published before is in front of it")
	require.Equal(t, []string{"a 1", "a 2"}, collect(t, l, stream.At(begin)))
	l.publish("a", 3)
	end := locate(stream.Latest)
	require.Equal(t, []string{"a 3"}, collect(t, l, stream.At(middle)), "and what is published later behind it")
	require.Empty(t, collect(t, l, stream.At(end)))

	require.Equal(t, middle, locate(stream.At(middle)))
	for _, far := range []pghub.Position{{Tick: math.MaxInt64, Txn: math.MaxInt64, ID: math.MaxInt64}, {Tick: math.MaxInt64, Txn: 1, ID: math.MaxInt64}, {Tick: 1}} {
		require.Equal(t, far, locate(stream.At(far)))
	}
	require.LessOrEqual(t, locate(stream.Earliest).Compare(begin), 0)
	require.Equal(t, locate(stream.Earliest), locate(stream.Start{}))
	require.Equal(t, locate(stream.Earliest), locate(stream.Since(time.Now().Add(-24*time.Hour))))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	at, err := l.s.Locate(ctx, stream.Latest)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "pghub/stream: locate: ")
	require.Zero(t, at)
}

func TestFollowGoesOn(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	saw := newSeen()
	ended := make(chan error, 1)
	go func() {
		for ev, err := range l.s.Follow(ctx, stream.Earliest) {
			if err != nil {
				ended <- err
				return
			}
			saw.add(ev)
		}
	}()
	saw.await(t, "a 1")
	l.publish("a", 2, 3)
	saw.await(t, "a 1", "a 2", "a 3")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestDurableGoesOnWhereItWas(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1, 2, 3)
	saw := newSeen()
	d, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	saw.await(t, "a 1", "a 2", "a 3")
	require.NoError(t, d.Stop(t.Context()))
	l.publish("a", 4)
	again := newSeen()
	_, err = l.s.Durable(t.Context(), "d", again.handle, nil)
	require.NoError(t, err)
	again.await(t, "a 4")
	require.Equal(t, []string{"a 1", "a 2", "a 3"}, saw.all())
}

func TestLanesKeepTheOrderOfAKey(t *testing.T) {
	l := newLab(t, stream.Config{})
	const keys, each = 20, 50
	next := make([]chan int, keys)
	for i := range next {
		next[i] = make(chan int, 1)
		next[i] <- 0
	}
	done := make(chan struct{}, keys*each)
	_, err := l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		n := <-next[ev.Key[0]]
		if want := fmt.Sprint(n); want != string(ev.Value) {
			t.Errorf("key %d: %s instead of %s", ev.Key[0], ev.Value, want)
		}
		next[ev.Key[0]] <- n + 1
		done <- struct{}{}
		return nil
	}, &stream.DurableConfig{Lanes: 8})
	require.NoError(t, err)
	for n := range each {
		for key := range keys {
			l.do(`SELECT pghub.publish('a', $1::bigint, $2::text)`, key, fmt.Sprint(n))
		}
	}
	for range keys * each {
		<-done
	}
}

func TestFailuresAreTriedAgainAndParked(t *testing.T) {
	l := newLab(t, stream.Config{})
	saw := newSeen()
	d, err := l.s.Durable(t.Context(), "d", func(ctx context.Context, ev *pghub.Event) error {
		switch string(ev.Value) {
		case "2":
			if ev.Record.Attempt < 3 {
				return errors.New("not yet")
			}
		case "3":
			return errors.New("never")
		case "4":
			return stream.Skip(errors.New("skipped"))
		case "5":
			panic("boom")
		}
		return saw.handle(ctx, ev)
	}, &stream.DurableConfig{RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, MaxAttempts: 4})
	require.NoError(t, err)
	l.publish("a", upTo(6)...)
	saw.await(t, "a 1", "a 2", "a 6")
	require.EqualValues(t, 3, d.Stats().Parked)
	rows, err := l.pool.Query(t.Context(), `SELECT concat(value, ' ', attempts, ' ', split_part(error, chr(10), 1)) FROM pghub.stream_parked`)
	require.NoError(t, err)
	parked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"3 4 never", "4 1 skipped", "5 4 panic: the handler: boom"}, parked)
	require.Zero(t, one[int](l, `SELECT count(*) FROM pghub.attempts`))
	require.EqualValues(t, 3, one[int](l, `SELECT pghub.unpark('d')`))
	eventually(t, "all are parked again", func() bool { return d.Stats().Parked == 6 })
}

func TestHalt(t *testing.T) {
	l := newLab(t, stream.Config{})
	d, err := l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		if string(ev.Value) == "2" {
			return stream.Skip(errors.New("no"))
		}
		return nil
	}, &stream.DurableConfig{Poison: stream.Halt})
	require.NoError(t, err)
	l.publish("a", 1, 2, 3)
	<-d.Done()
	require.ErrorIs(t, d.Err(), stream.ErrHalted)
	saw := newSeen()
	_, err = l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	saw.await(t, "a 2", "a 3")
}

func TestDurableTxStoresThePositionWithTheWork(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.do(`CREATE TABLE ledger (n int PRIMARY KEY)`)
	fail := true
	work := func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
			if ev.Key[0] == 50 && fail {
				fail = false
				return errors.New("once")
			}
		}
		return nil
	}
	d, err := l.s.DurableTx(t.Context(), "ledger", work, &stream.DurableConfig{RetryMin: time.Millisecond})
	require.NoError(t, err)
	l.do(`SELECT pghub.publish('a', i) FROM generate_series(1, 1000) AS i`)
	eventually(t, "the ledger", func() bool { return one[int](l, `SELECT count(*) FROM ledger`) == 1000 })
	require.NoError(t, d.Stop(t.Context()))
	require.EqualValues(t, 1, d.Stats().Failed)
}

func TestLiveTopics(t *testing.T) {
	live := []string{"b", "a"}
	l := newLab(t, stream.Config{Live: live})
	live[0] = "changed later"
	require.Equal(t, []string{"b", "a"}, l.s.LiveTopics())
	l.s.LiveTopics()[0] = "changed by a caller"
	require.Equal(t, []string{"b", "a"}, l.s.LiveTopics())
}

func TestLiveConsumersGetStreamTopics(t *testing.T) {
	l := newLab(t, stream.Config{Live: []string{"a"}})
	saw := newSeen()
	_, err := l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			require.NotNil(t, ev.Record)
			saw.add(ev)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	l.publish("a", 1, 2)
	l.publish("b", 1)
	l.publish("a", 3)
	saw.await(t, "a 1", "a 2", "a 3")
}

// The position goes on when the work is done, and not before.
func TestThePositionFollowsTheWork(t *testing.T) {
	l := newLab(t, stream.Config{})
	at := make(chan pghub.Position)
	d, err := l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		at <- ev.Record.Position
		at <- ev.Record.Position
		return nil
	}, nil)
	require.NoError(t, err)
	l.publish("a", 1)
	event := <-at
	require.Negative(t, d.Position().Compare(event), "it is under way")
	<-at
	eventually(t, "it is done", func() bool { return d.Position().Compare(event) >= 0 })
}

func TestTheTransactionOfAHandlerIsEndedForIt(t *testing.T) {
	l := newLab(t, stream.Config{})
	errs := make(chan error, 2)
	d, err := l.s.DurableTx(t.Context(), "d", func(ctx context.Context, tx pgx.Tx, _ []*pghub.Event) error {
		errs <- tx.Commit(ctx)
		errs <- tx.Rollback(ctx)
		return nil
	}, nil)
	require.NoError(t, err)
	l.publish("a", 1)
	require.ErrorContains(t, <-errs, "is ended for its handler")
	require.ErrorContains(t, <-errs, "is ended for its handler")
	eventually(t, "the event is done", func() bool { return d.Stats().Delivered == 1 })
}
