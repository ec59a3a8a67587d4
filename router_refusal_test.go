package pghub

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One name that the server refuses keeps nobody else from being listened to.
func TestRouterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		_, s, c := routerUp(t, Config{OnError: func(err error) { told = append(told, err) }})
		s.refuses["bad"] = true
		good := routerSubscribe(t, c, "a")
		mixed := routerSubscribe(t, c, "b", "bad")
		same := routerSubscribe(t, c, "bad")
		s.settle()
		require.NoError(t, good.err)
		for _, req := range []*request{mixed, same} {
			var refused *ListenError
			require.True(t, routerDone(req))
			require.ErrorAs(t, req.err, &refused)
			require.Equal(t, "bad", refused.Topic)
			require.ErrorContains(t, req.err, "no bad")
		}
		require.Equal(t, []string{"a"}, c.Topics(), "none of the topics of a refused call remains")
		require.Equal(t, map[string]bool{"a": true}, s.listening)
		synctest.Wait()
		require.Len(t, told, 1)
		require.ErrorContains(t, told[0], `"bad"`)
		unitTake(c)
		s.notify("a 1", "b 2")
		require.Equal(t, []string{"a 1"}, unitTake(c))
	})
}

// A topic recorded before Start that the server refuses is a reason not to start.
func TestRouterRefusalAtStart(t *testing.T) {
	hub := routerHub(t, Config{})
	c := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, c, "a", "bad")
	hub.router.start()
	s := newUnitServer(hub)
	s.refuses["bad"] = true
	s.attach()
	joined := routerSubscribe(t, c, "bad") // does not change that
	for s.startErr == nil && s.ask() {
		s.answer()
	}
	var refused *ListenError
	require.ErrorAs(t, s.startErr, &refused)
	require.Equal(t, "bad", refused.Topic)
	require.Zero(t, s.announced)
	require.ErrorAs(t, joined.err, &refused)
}

// A topic that is refused after a reconnection is tried again, and announced when it is in effect.
func TestRouterRefusalAtReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		hub, s, c := routerUp(t, Config{OnError: func(err error) { told = append(told, err) }})
		routerSubscribe(t, c, "a", "bad")
		s.settle()
		other := unitConsumer(t, hub, ConsumerConfig{})
		s.detach(io.EOF)
		s.refuses["bad"] = true
		s.attach()
		s.settle()
		require.Equal(t, 2, s.announced)
		require.NoError(t, unitTakeEvents(other)[1].Advisory.Err, "whoever has all topics back is told of none")
		joined := routerSubscribe(t, c, "bad")
		require.False(t, routerDone(joined), "it is not in effect")
		hub.router.Retry()
		s.settle()
		require.Error(t, joined.err)
		require.Equal(t, []string{"a", "bad"}, c.Topics())
		synctest.Wait()
		require.Len(t, told, 1, "told once, not with every attempt")
		delete(s.refuses, "bad")
		hub.router.Retry()
		s.settle()
		s.notify("bad 1")
		events := unitTakeEvents(c)
		require.Equal(t, []string{"subscribe a", "subscribe bad", "disconnect", "reconnect", "subscribe bad", "bad 1"}, eventWords(events))
		lost, back, late := events[2].Advisory, events[3].Advisory, events[4].Advisory
		var refusal *ListenError
		require.ErrorAs(t, back.Err, &refusal, "reconnect says which topic is missing")
		require.Equal(t, "bad", refusal.Topic)
		require.Equal(t, lost.Gap.Since, late.Gap.Since, "the gap of that topic began with the loss")
		require.False(t, late.Gap.Until.Before(back.Gap.Until), "and ended when the server took it")
		require.ErrorAs(t, late.Gap.Err, &refusal)
		hub.router.Retry()
		require.False(t, s.ask(), "nothing is refused any more")
	})
}

// A Subscribe call whose context ends leaves nothing behind, and takes nothing from others.
func TestRouterGivesUp(t *testing.T) {
	cause := errors.New("context ended")
	t.Run("alone", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "had")
		s.settle()
		req := routerSubscribe(t, c, "had", "a", "b")
		require.Equal(t, cause, hub.router.giveUp(req, cause))
		require.True(t, routerDone(req))
		require.Equal(t, []string{"had"}, c.Topics())
		s.settle()
		require.Equal(t, []string{`LISTEN "had"`}, s.said)
		require.Equal(t, []string{"subscribe had"}, unitTake(c))
	})
	t.Run("just after it was in effect", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		req := routerSubscribe(t, c, "a")
		s.settle()
		require.NoError(t, hub.router.giveUp(req, cause))
		require.Equal(t, []string{"a"}, c.Topics())
	})
	t.Run("partly in effect", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		other := unitConsumer(t, hub, ConsumerConfig{})
		routerSubscribe(t, other, "a")
		s.settle()
		req := routerSubscribe(t, c, "a", "b")
		s.notify("a 1")
		require.Equal(t, cause, hub.router.giveUp(req, cause))
		require.Empty(t, c.Topics())
		require.Equal(t, []string{"subscribe a"}, unitTake(c))
	})
	t.Run("while another call waits for the same", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		req, other := routerSubscribe(t, c, "a", "b"), routerSubscribe(t, c, "a")
		require.Equal(t, cause, hub.router.giveUp(req, cause))
		require.Equal(t, []string{"a"}, c.Topics())
		s.settle()
		require.True(t, routerDone(other))
		require.NoError(t, other.err)
		require.Equal(t, []string{"subscribe a"}, unitTake(c))
	})
	t.Run("both calls", func(t *testing.T) {
		for _, order := range [][2]int{{0, 1}, {1, 0}} {
			hub, _, c := routerUp(t, Config{})
			calls := []*request{routerSubscribe(t, c, "a"), routerSubscribe(t, c, "a")}
			for _, i := range order {
				require.Equal(t, cause, hub.router.giveUp(calls[i], cause))
			}
			require.Empty(t, c.Topics())
		}
	})
	t.Run("after another call was told that it is in effect", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		first := unitConsumer(t, hub, ConsumerConfig{})
		routerSubscribe(t, first, "a")
		s.settle()
		req := routerSubscribe(t, c, "a", "b") // waits for b
		require.True(t, routerDone(routerSubscribe(t, c, "a")))
		require.Equal(t, cause, hub.router.giveUp(req, cause))
		require.Equal(t, []string{"a"}, c.Topics())
	})
}

// A server that will not leave a topic keeps nobody waiting, and is asked again.
func TestRouterRefusalToLeave(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a")
	s.settle()
	gone := hub.router.unsubscribe(c, []string{"a"})
	changes, _ := hub.router.Changes()
	require.NoError(t, hub.router.Acknowledge(changes, errors.New("not now")))
	require.True(t, routerDone(gone))
	require.NoError(t, gone.err)
	require.False(t, s.ask(), "not at once")
	hub.router.Retry()
	s.settle()
	require.Empty(t, s.listening)
	require.Empty(t, hub.router.channels)
}

// The gap of a topic that is refused in one session after another began with the first loss.
func TestRouterRefusalInSeveralSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "a", "bad")
		s.settle()
		unitTake(c)
		s.refuses["bad"] = true
		lost := time.Now()
		for range 3 {
			s.detach(io.EOF)
			s.attach()
			s.settle()
			time.Sleep(time.Minute)
		}
		delete(s.refuses, "bad")
		hub.router.Retry()
		s.settle()
		events := unitTakeEvents(c)
		late := events[len(events)-1]
		require.Equal(t, "subscribe bad", eventWord(late))
		require.Equal(t, lost, late.Advisory.Gap.Since)
	})
}
