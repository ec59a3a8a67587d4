package pghub

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// unitGuest is a guest that brings nothing.
type unitGuest struct {
	topics []string
	stop   func(context.Context)
}

func (g unitGuest) Topics() []string { return g.topics }

func (g unitGuest) Stop(ctx context.Context) { g.stop(ctx) }

func TestAttachNeedsAHubThatLives(t *testing.T) {
	_, err := unitHub(t, Config{}).Attach(unitGuest{})
	require.ErrorIs(t, err, ErrNoPool)

	hub := unitHub(t, Config{Pool: unitPool()})
	require.NoError(t, hub.Stop(within(t)))
	_, err = hub.Attach(unitGuest{})
	require.ErrorIs(t, err, ErrStopped, "nobody would end it")
}

// A guest that takes its time does not keep the others from being told.
func TestGuestsStopTogether(t *testing.T) {
	hub := unitHub(t, Config{Pool: unitPool()})
	var told sync.WaitGroup
	for range 3 {
		told.Add(1)
		_, err := hub.Attach(unitGuest{stop: func(context.Context) {
			told.Done()
			told.Wait() // until the others are told too
		}})
		require.NoError(t, err)
	}
	require.NoError(t, hub.Stop(within(t)))
}

// A consumer misses nothing at a reconnection where a guest brings all of its topics, and only there.
func TestFedTopicsHaveNoGap(t *testing.T) {
	hub, s, idle := routerUp(t, Config{})
	hub.router.feeds([]string{"fed", "too"})
	consumers := map[*Consumer]bool{idle: true} // whether there is a gap
	for _, c := range []struct {
		topics []string
		gap    bool
	}{{[]string{"fed"}, false}, {[]string{"fed", "too"}, false}, {[]string{"fed", "a"}, true}, {[]string{"a"}, true}} {
		made := unitConsumer(t, hub, ConsumerConfig{})
		routerSubscribe(t, made, c.topics...)
		consumers[made] = c.gap
	}
	s.settle()
	for c := range consumers {
		unitTake(c)
	}
	s.detach(io.EOF)
	s.attach()
	s.settle()
	for c, gap := range consumers {
		events := unitTakeEvents(c)
		require.Equal(t, []string{"disconnect", "reconnect"}, eventWords(events))
		require.Equal(t, gap, events[1].Advisory.Gap != Gap{}, "%q", c.Topics())
		require.Equal(t, gap, events[1].Advisory.wantsResync(), "%q", c.Topics())
	}
}

// What a guest cannot bring is announced to those whom it concerns.
func TestAGuestAnnouncesWhatIsMissing(t *testing.T) {
	hub, s, other := routerUp(t, Config{})
	c := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, c, "fed")
	routerSubscribe(t, other, "a")
	s.settle()
	unitTake(c)
	unitTake(other)
	why := errors.New("gone")
	host{hub}.Missed([]string{"fed", "nobody's"}, why)
	require.Empty(t, unitTake(other))
	events := unitTakeEvents(c)
	require.Equal(t, []string{"subscribe fed"}, eventWords(events))
	require.True(t, events[0].Advisory.wantsResync())
	require.Equal(t, why, events[0].Advisory.Gap.Err)
	require.Equal(t, why, events[0].Advisory.Err)
}
