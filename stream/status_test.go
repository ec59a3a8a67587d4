package stream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// The database knows how far each consumer is behind, and since when, whoever works for it; and whether somebody does.
func TestStatus(t *testing.T) {
	l := newLab(t, stream.Config{})
	busy := func(_ context.Context, ev *pghub.Event) error {
		if ev.Key[0] == 2 {
			return errors.New("not this one")
		}
		return nil
	}
	_, err := l.s.Durable(t.Context(), "parks", busy, &stream.DurableConfig{MaxAttempts: 1})
	require.NoError(t, err)
	halts, err := l.s.Durable(t.Context(), "halts", busy, &stream.DurableConfig{MaxAttempts: 1, Poison: stream.Halt})
	require.NoError(t, err)
	l.publish("orders", 1, 2, 3, 4)
	<-halts.Done()
	require.EqualValues(t, 1, l.s.Stats().Halted)

	status := func() (st stream.Status, halts, parks stream.ConsumerStatus) {
		st, err := l.s.Status(t.Context())
		require.NoError(t, err)
		require.Len(t, st.Consumers, 2)
		return st, st.Consumers[0], st.Consumers[1]
	}
	var st stream.Status
	var halted, parks stream.ConsumerStatus
	eventually(t, "one has halted, and one has done all and parked one", func() bool {
		st, halted, parks = status()
		return parks.EventsBehind == 0 && parks.Parked == 1 && parks.Owner != "" && halted.Owner == "" && st.Sequencer != ""
	})
	require.Equal(t, "halts", halted.Name)
	require.Positive(t, halted.EventsBehind)
	require.Positive(t, halted.BytesBehind)
	require.Positive(t, halted.Behind)
	require.Less(t, halted.Behind, time.Hour)
	require.Zero(t, halted.Parked)
	require.Equal(t, "parks", parks.Name)
	require.Zero(t, parks.BytesBehind)
	require.Zero(t, parks.Behind)
	require.EqualValues(t, 4, st.Events)
	require.Positive(t, st.Bytes)

	require.NoError(t, l.hub.Stop(t.Context()))
	eventually(t, "nobody is there", func() bool {
		st, _, parks = status()
		return st.Sequencer == "" && parks.Owner == ""
	})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.s.Status(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// Consumers of one name are one in figures.
func TestDurablesByName(t *testing.T) {
	sums := stream.Stats{Durables: []stream.DurableStats{
		{Name: "a", Working: true, Delivered: 1, Failed: 2, Parked: 3, Resyncs: 4, InHand: 5},
		{Name: "b", Delivered: 10},
		{Name: "a", Delivered: 10, Failed: 20, Parked: 30, Resyncs: 40, InHand: 50},
	}}.DurablesByName()
	require.Equal(t, map[string]stream.DurableStats{
		"a": {Name: "a", Working: true, Delivered: 11, Failed: 22, Parked: 33, Resyncs: 44, InHand: 55},
		"b": {Name: "b", Delivered: 10},
	}, sums)
}

// Consumers stay in the sums of their names when they have ended. Names do not become more without end.
func TestDurablesThatHaveEnded(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	for n := 1; n <= 2; n++ {
		d, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
		require.NoError(t, err)
		l.publish("a", n)
		saw.await(t, numbers("a", 1, n)...)
		eventually(t, "it is acknowledged", func() bool { return l.s.Stats().DurablesByName()["d"].Delivered == uint64(n) })
		require.NoError(t, d.Stop(t.Context()))
		require.Equal(t, map[string]stream.DurableStats{"d": {Name: "d", Delivered: uint64(n)}}, l.s.Stats().DurablesByName())
	}
	for n := range 260 {
		d, err := l.s.Durable(t.Context(), fmt.Sprint("many", n), saw.handle, &stream.DurableConfig{From: stream.Latest})
		require.NoError(t, err)
		require.NoError(t, d.Stop(t.Context()))
	}
	sums := l.s.Stats().DurablesByName()
	require.Len(t, sums, 257)
	require.Contains(t, sums, "d")
	require.Contains(t, sums, "")

	// One that is among the others is there while it lives, and when it has ended.
	d, err := l.s.Durable(t.Context(), "late", saw.handle, &stream.DurableConfig{From: stream.Latest})
	require.NoError(t, err)
	l.publish("a", 3)
	for _, stop := range []func(context.Context) error{func(context.Context) error { return nil }, d.Stop} {
		require.NoError(t, stop(t.Context()))
		eventually(t, "it is acknowledged", func() bool { return l.s.Stats().DurablesByName()[""].Delivered == 1 })
		require.NotContains(t, l.s.Stats().DurablesByName(), "late")
	}
}
