package stream_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// publishTogether publishes events that can be read at once.
func (l *lab) publishTogether(topic string, numbers ...int) {
	l.t.Helper()
	l.publish(topic, numbers...)
	_, err := l.s.Locate(l.t.Context(), stream.Latest)
	require.NoError(l.t, err)
}

// All that waits comes together, in order, up to the size of a batch, and a consumer of the same name goes on behind it.
func TestDurableBatchHandlesManyAtOnce(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(25)...)
	saw, sizes := newSeen(), make(chan int, 100)
	handler := func(_ context.Context, b *stream.Batch) error {
		sizes <- len(b.Events)
		for _, ev := range b.Events {
			saw.add(ev)
		}
		return nil
	}
	cfg := &stream.DurableConfig{Batch: 10}
	d, err := l.s.DurableBatch(t.Context(), "d", handler, cfg)
	require.NoError(t, err)
	saw.await(t, numbers("a", 1, 25)...)
	require.Equal(t, []int{10, 10, 5}, []int{<-sizes, <-sizes, <-sizes})
	require.NoError(t, d.Stop(t.Context()))
	require.EqualValues(t, 25, d.Stats().Delivered)

	l.publish("a", 26)
	_, err = l.s.DurableBatch(t.Context(), "d", handler, cfg)
	require.NoError(t, err)
	saw.await(t, numbers("a", 1, 26)...)
}

// Nothing of a batch is behind the position before its handler has returned.
func TestDurableBatchAcknowledgesBehindTheWork(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(5)...)
	entered := make(chan stream.Position, 1)
	d, err := l.s.DurableBatch(t.Context(), "d", func(ctx context.Context, b *stream.Batch) error {
		entered <- b.Events[0].Record.Position
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	first := <-entered
	require.Negative(t, d.Position().Compare(first))
	d.Close()
	<-d.Done()
	require.Negative(t, d.Position().Compare(first))

	saw := newSeen()
	_, err = l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	saw.await(t, numbers("a", 1, 5)...)
}

// After an error the events of a batch come one at a time, so that the one that is poison is found, and parked alone.
func TestDurableBatchFindsTheOneThatFails(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(5)...)
	saw := newSeen()
	d, err := l.s.DurableBatch(t.Context(), "d", func(_ context.Context, b *stream.Batch) error {
		for _, ev := range b.Events {
			if string(ev.Value) == "3" {
				return errors.New("not this one")
			}
		}
		for _, ev := range b.Events {
			saw.add(ev)
		}
		return nil
	}, &stream.DurableConfig{MaxAttempts: 2, RetryMin: time.Millisecond, RetryMax: time.Millisecond})
	require.NoError(t, err)
	saw.await(t, "a 1", "a 2", "a 4", "a 5")
	require.Equal(t, "not this one", one[string](l, `SELECT error FROM pghub.parked WHERE value = '3'`))
	require.EqualValues(t, 1, d.Stats().Parked)
}

// What the handler parks is put aside with its reason, in its place; the others of the batch are done. Unparked, it comes alone, and as Again.
func TestDurableBatchParks(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(5)...)
	saw := newSeen()
	var mended, calls atomic.Int64
	d, err := l.s.DurableBatch(t.Context(), "d", func(_ context.Context, b *stream.Batch) error {
		calls.Add(1)
		for i, ev := range b.Events {
			if v := string(ev.Value); mended.Load() == 0 && (v == "2" || v == "5") {
				b.Park(i, errors.New("no good: "+v))
				continue
			}
			if b.Again {
				ev = &pghub.Event{Topic: "again", Value: ev.Value}
			}
			saw.add(ev)
		}
		return nil
	}, nil)
	require.NoError(t, err)
	saw.await(t, "a 1", "a 3", "a 4")
	eventually(t, "both are parked", func() bool { return d.Stats().Parked == 2 })
	require.Equal(t, "no good: 2", one[string](l, `SELECT error FROM pghub.parked WHERE value = '2'`))
	require.EqualValues(t, 3, d.Stats().Delivered)
	require.EqualValues(t, 1, calls.Load(), "parking is no failure of the batch")

	mended.Store(1)
	l.do(`SELECT pghub.unpark('d')`)
	saw.await(t, "a 1", "a 3", "a 4", "again 2", "again 5")
	eventually(t, "they are forgotten", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 0 })
}

// A consumer that halts does so in front of what its handler parks: what is before it in the batch is done.
func TestDurableBatchHalts(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(3)...)
	d, err := l.s.DurableBatch(t.Context(), "d", func(_ context.Context, b *stream.Batch) error {
		for i, ev := range b.Events {
			if string(ev.Value) == "2" {
				b.Park(i, errors.New("no good"))
			}
		}
		return nil
	}, &stream.DurableConfig{Poison: stream.Halt})
	require.NoError(t, err)
	<-d.Done()
	require.ErrorIs(t, d.Err(), stream.ErrHalted)
	saw := newSeen()
	_, err = l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	saw.await(t, numbers("a", 2, 3)...)
}

// After a death the first events come one at a time, as one of them may have caused it; where there is no limit of attempts, that would be for nothing.
func TestDurableBatchAfterADeath(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publishTogether("a", upTo(5)...)
	for attempts, want := range map[int][]int{0: {1, 1, 1, 1, 1}, -1: {5}} {
		name := "d" + strconv.Itoa(attempts)
		l.do(`SELECT pghub.attach($1, 'dead', '1 hour', NULL, 'earliest')`, name)
		l.do(`UPDATE pghub.consumers SET until = now() - interval '1 second' WHERE name = $1`, name)
		saw, sizes := newSeen(), make(chan int, 10)
		d, err := l.s.DurableBatch(t.Context(), name, func(_ context.Context, b *stream.Batch) error {
			sizes <- len(b.Events)
			for _, ev := range b.Events {
				saw.add(ev)
			}
			return nil
		}, &stream.DurableConfig{MaxAttempts: attempts})
		require.NoError(t, err)
		saw.await(t, numbers("a", 1, 5)...)
		require.NoError(t, d.Stop(t.Context()))
		close(sizes)
		var got []int
		for n := range sizes {
			got = append(got, n)
		}
		require.Equal(t, want, got)
	}
}
