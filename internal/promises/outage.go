package promises

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// During an outage every call has its answer, and what waits is bounded by its context.
func answersDuringAnOutage(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, seen.handle, &pghub.ConsumerConfig{Topics: []string{"a", "left"}})
	b.Down()
	seen.await(t, "disconnect")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.ErrorIs(t, hub.Notify(ctx, "a", []int64{1}, nil), pghub.ErrNotConnected)
	brief, cancelBrief := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancelBrief()
	require.ErrorIs(t, c.Subscribe(brief, "undone"), context.DeadlineExceeded)
	_, err := hub.Consumer(brief, newStream().handle, &pghub.ConsumerConfig{Topics: []string{"undone"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, c.Unsubscribe(within(t), "left"))
	require.Equal(t, []string{"a"}, c.Topics())
	drained := consume(t, hub, newStream().handle, nil)
	require.NoError(t, drained.Drain(within(t)))

	waiting := background(func() error { return c.Subscribe(within(t), "late") })
	for !slices.Contains(c.Topics(), "late") { // it has been recorded
		time.Sleep(time.Millisecond)
	}
	b.Publish(Message{"a", "e2"}, Message{"late", "e2"})
	b.Up()
	require.NoError(t, answered(t, waiting, "Subscribe during an outage"))
	b.Publish(Message{"undone", "e3"}, Message{"left", "e3"}, Message{"late", "e3"}, Message{"a", "e3"})
	seen.expect(t, "reconnect", "subscribe late", "late e3", "a e3")
}

// The hub comes back however often it is refused, and says what it missed.
func comesBackFromDown(t *testing.T, b Backend) {
	heard := newTroubles()
	hub := startHub(t, b, func(cfg *pghub.Config) { cfg.OnError = heard.note })
	seen := watch(t, hub, "a")
	seen.expect(t, "subscribe a")
	for i := range 3 {
		b.Publish(numbers("a", 10*i, 1)...)
		seen.expect(t, fmt.Sprintf("a e%d", 10*i))
		b.Down()
		seen.expect(t, "disconnect")
		heard.await(t, 4*(i+1), pghub.ErrNotConnected)
		b.Publish(numbers("a", 10*i+1, 1)...) // missed
		b.Up()
		seen.expect(t, "reconnect")
		b.Publish(numbers("a", 10*i+2, 1)...)
		seen.expect(t, fmt.Sprintf("a e%d", 10*i+2))
		require.Equal(t, pghub.StateListening, hub.State())
		for err := errors.New("not yet"); err != nil; { // connections of the pool are broken, too
			if err = hub.Notify(within(t), "a", []int64{int64(10*i + 3)}, nil); err != nil {
				require.True(t, errors.Is(err, pghub.ErrNotConnected) || errors.Is(err, pghub.ErrUnknownOutcome), "%v", err)
			}
		}
		b.Publish(numbers("a", 10*i+4, 1)...)
		seen.await(t, fmt.Sprintf("a e%d", 10*i+3))
		seen.await(t, fmt.Sprintf("a e%d", 10*i+4))
	}
	require.Equal(t, uint64(3), hub.Stats().Reconnects)
}

// A connection that has gone silent is given up.
func comesBackFromSilence(t *testing.T, b Backend) {
	hub := startHub(t, b, func(cfg *pghub.Config) {
		cfg.ProbeInterval, cfg.ProbeTimeout = 100*time.Millisecond, 2*time.Second
	})
	seen := watch(t, hub, "a")
	b.Publish(Message{"a", "e1"})
	seen.expect(t, "subscribe a", "a e1")
	b.Stall()
	lost := seen.await(t, "disconnect")
	require.ErrorIs(t, lost.Advisory.Err, pghub.ErrProbe)
	b.Publish(Message{"a", "e2"})
	b.Resume()
	seen.await(t, "reconnect")
	b.Publish(Message{"a", "e3"})
	seen.await(t, "a e3")
	require.NotContains(t, seen.on("a"), "e2")
}
