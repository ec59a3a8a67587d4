package pghub

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// routerSubscribe begins a call of Subscribe.
func routerSubscribe(t *testing.T, c *Consumer, topics ...string) *request {
	t.Helper()
	req, err := c.hub.router.subscribe(c, topics)
	require.NoError(t, err)
	return req
}

func routerDone(req *request) bool {
	select {
	case <-req.done:
		return true
	default:
		return false
	}
}

// routerHub returns a hub whose events are plain text.
func routerHub(t *testing.T, cfg Config) *Hub {
	t.Helper()
	if cfg.Codec == nil {
		cfg.Codec = RawCodec{}
	}
	return unitHub(t, cfg)
}

// routerUp returns a hub whose session listens, the server, and a consumer that has been told so.
func routerUp(t *testing.T, cfg Config) (*Hub, *unitServer, *Consumer) {
	t.Helper()
	hub := routerHub(t, cfg)
	c := unitConsumer(t, hub, ConsumerConfig{})
	hub.router.start()
	s := newUnitServer(hub)
	s.attach()
	s.settle()
	require.Equal(t, 1, s.announced)
	require.Equal(t, []string{"connect"}, unitTake(c))
	s.said = nil
	return hub, s, c
}

// What is subscribed to while nothing can be written goes out as one statement.
func TestRouterBurst(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	other := unitConsumer(t, hub, ConsumerConfig{})
	var requests []*request
	for i := range 300 {
		requests = append(requests, routerSubscribe(t, c, fmt.Sprint("t", i)))
		requests = append(requests, routerSubscribe(t, other, fmt.Sprint("t", i)))
	}
	select {
	case <-s.wake:
	default:
		require.Fail(t, "the session is not told")
	}
	require.True(t, s.ask())
	late := routerSubscribe(t, c, "late", "later")
	require.False(t, routerDone(requests[0]))
	s.answer()
	for _, req := range requests {
		require.True(t, routerDone(req))
		require.NoError(t, req.err)
	}
	require.False(t, routerDone(late))
	s.settle()
	require.True(t, routerDone(late))
	require.Len(t, s.said, 2)
	require.Equal(t, 300, strings.Count(s.said[0], "LISTEN "))
	require.Equal(t, `LISTEN "late";LISTEN "later"`, s.said[1])
}

// The server is asked for a topic once, however many are subscribed to it.
func TestRouterFirstAndLast(t *testing.T) {
	hub, s, first := routerUp(t, Config{})
	second := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, first, "a")
	s.settle()
	require.True(t, routerDone(routerSubscribe(t, second, "a")), "it is in effect already")
	require.True(t, routerDone(routerSubscribe(t, second, "a", "a")), "and the same topic again is fine")
	s.notify("a 1")
	require.True(t, routerDone(hub.router.unsubscribe(first, []string{"a", "unknown"})), "another one still wants it")
	s.notify("a 2")
	last := hub.router.unsubscribe(second, []string{"a"})
	require.False(t, routerDone(last), "the server still listens")
	require.True(t, s.ask())
	require.False(t, routerDone(last))
	s.answer()
	require.True(t, routerDone(last))
	require.Equal(t, []string{`LISTEN "a"`, `UNLISTEN "a"`}, s.said)
	require.Equal(t, []string{"subscribe a"}, unitTake(first), "no event that is queued comes after Unsubscribe")
	require.Equal(t, []string{"subscribe a"}, unitTake(second))
	require.Empty(t, hub.router.channels)
}

// However calls and answers interleave, the server ends up listening to what is wanted.
func TestRouterMeanwhile(t *testing.T) {
	t.Run("unsubscribed while LISTEN is under way", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		req := routerSubscribe(t, c, "a")
		s.ask()
		hub.router.unsubscribe(c, []string{"a"})
		require.ErrorIs(t, req.err, errUnsubscribed)
		s.answer()
		s.settle()
		require.Equal(t, []string{`LISTEN "a"`, `UNLISTEN "a"`}, s.said)
		require.Empty(t, unitTake(c))
	})
	t.Run("subscribed again while LISTEN is under way", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "a")
		s.ask()
		hub.router.unsubscribe(c, []string{"a"})
		req := routerSubscribe(t, c, "a")
		s.answer()
		require.True(t, routerDone(req))
		s.settle()
		require.Equal(t, []string{`LISTEN "a"`}, s.said)
		require.Equal(t, []string{"subscribe a"}, unitTake(c))
	})
	t.Run("subscribed while UNLISTEN is under way", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "a")
		s.settle()
		gone := hub.router.unsubscribe(c, []string{"a"})
		s.ask()
		req := routerSubscribe(t, c, "a")
		s.answer()
		require.True(t, routerDone(gone))
		require.False(t, routerDone(req), "the server does not listen any more")
		s.settle()
		require.True(t, routerDone(req))
		s.notify("a 1")
		require.Equal(t, []string{`LISTEN "a"`, `UNLISTEN "a"`, `LISTEN "a"`}, s.said)
		require.Equal(t, []string{"subscribe a", "subscribe a", "a 1"}, unitTake(c))
	})
	t.Run("subscribed before UNLISTEN is written", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "a")
		s.settle()
		gone := hub.router.unsubscribe(c, []string{"a"})
		require.True(t, routerDone(routerSubscribe(t, c, "a")))
		s.settle()
		require.True(t, routerDone(gone), "there is nothing to wait for")
		require.Equal(t, []string{`LISTEN "a"`}, s.said)
	})
	t.Run("subscribed while a statement with its UNLISTEN is refused", func(t *testing.T) {
		hub, s, c := routerUp(t, Config{})
		routerSubscribe(t, c, "a")
		s.settle()
		hub.router.unsubscribe(c, []string{"a"})
		s.refuses["b"] = true
		refused := routerSubscribe(t, c, "b")
		s.ask()
		req := routerSubscribe(t, c, "a")
		s.answer()
		s.settle()
		require.True(t, routerDone(req))
		require.NoError(t, req.err)
		require.Error(t, refused.err)
		s.notify("a 1")
		require.Equal(t, []string{"subscribe a", "subscribe a", "a 1"}, unitTake(c))
	})
}

// Before Start topics are only recorded. Then connect comes first, and the topics in the order of their calls.
func TestRouterAnnounces(t *testing.T) {
	hub := routerHub(t, Config{})
	first, second := unitConsumer(t, hub, ConsumerConfig{}), unitConsumer(t, hub, ConsumerConfig{})
	require.True(t, routerDone(routerSubscribe(t, first, "z", "b")))
	require.True(t, routerDone(routerSubscribe(t, second, "a", "z")))
	require.True(t, routerDone(routerSubscribe(t, first, "a", "gone")))
	require.True(t, routerDone(hub.router.unsubscribe(first, []string{"gone"})))
	hub.router.start()
	s := newUnitServer(hub)
	s.attach()
	s.settle()
	s.notify("z 1", "a 2")
	require.Equal(t, []string{"connect", "subscribe z", "subscribe b", "subscribe a", "z 1", "a 2"}, unitTake(first))
	require.Equal(t, []string{"connect", "subscribe a", "subscribe z", "z 1", "a 2"}, unitTake(second))
	require.NotContains(t, s.said[0], "gone")

	late := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, late, "a")
	require.Equal(t, []string{"subscribe a"}, unitTake(late), "it was connected when the consumer was made")
}

// With nothing to listen to, any answer of the server announces the session.
func TestRouterAnnouncesWithoutTopics(t *testing.T) {
	hub := routerHub(t, Config{})
	c := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, c, "a")
	hub.router.start()
	s := newUnitServer(hub)
	s.attach()
	hub.router.unsubscribe(c, []string{"a"})
	require.Zero(t, s.announced)
	s.settle()
	require.Equal(t, 1, s.announced)
	require.Equal(t, []string{""}, s.said)
	require.Equal(t, []string{"connect"}, unitTake(c))
}

// A lost connection is announced, and the new one only when it listens to everything.
func TestRouterReconnects(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "b")
	routerSubscribe(t, c, "a")
	s.settle()
	s.notify("a 1")
	waiting := routerSubscribe(t, c, "under way")
	s.ask()
	s.detach(io.EOF)
	require.False(t, routerDone(waiting), "it waits for the reconnection")
	added := routerSubscribe(t, c, "added", "a")
	newcomer := unitConsumer(t, hub, ConsumerConfig{})
	routerSubscribe(t, newcomer, "a")
	require.True(t, routerDone(hub.router.unsubscribe(c, []string{"b"})), "nobody listens")

	s.attach()
	s.ask()
	s.notify("a 2")
	require.Equal(t, 1, s.announced)
	s.answer()
	require.Equal(t, 2, s.announced)
	require.True(t, routerDone(waiting))
	require.True(t, routerDone(added))
	s.notify("a 3", "b 4", "added 5")
	events := unitTakeEvents(c)
	var words []string
	for _, ev := range events {
		words = append(words, eventWord(ev))
	}
	require.Equal(t, []string{"subscribe b", "subscribe a", "a 1", "disconnect", "reconnect", "subscribe under way", "subscribe added", "a 3", "added 5"}, words)
	require.Equal(t, []string{"subscribe a", "a 3"}, unitTake(newcomer))

	lost, back := events[3].Advisory, events[4].Advisory
	require.Equal(t, io.EOF, lost.Err)
	require.Equal(t, io.EOF, back.Gap.Err)
	require.Equal(t, lost.Gap.Since, back.Gap.Since)
	require.False(t, back.Gap.Since.IsZero())
	require.False(t, back.Gap.Until.Before(back.Gap.Since))
}

// A session that is lost before it listened is nothing to tell anybody.
func TestRouterLosesUnannouncedSession(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a")
	s.settle()
	s.detach(io.EOF)
	for range 3 {
		s.attach()
		s.ask()
		s.detach(errors.New("again"))
	}
	s.attach()
	s.settle()
	events := unitTakeEvents(c)
	require.Len(t, events, 3)
	require.Equal(t, "reconnect", eventWord(events[2]))
	require.Equal(t, io.EOF, events[2].Advisory.Gap.Err, "the gap began with the session that listened")
	require.Equal(t, []string{"a"}, slices.Collect(maps.Keys(hub.router.channels)))
}

func TestRouterUnsubscribeEnds(t *testing.T) {
	for name, end := range map[string]func(hub *Hub, s *unitServer){
		"with the connection":               func(_ *Hub, s *unitServer) { s.detach(io.EOF) },
		"with the connection, UNLISTEN out": func(_ *Hub, s *unitServer) { s.ask(); s.detach(io.EOF) },
		"with the hub":                      func(hub *Hub, _ *unitServer) { hub.router.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			hub, s, c := routerUp(t, Config{})
			routerSubscribe(t, c, "a")
			s.settle()
			gone := hub.router.unsubscribe(c, []string{"a"})
			require.False(t, routerDone(gone))
			end(hub, s)
			require.True(t, routerDone(gone))
			require.NoError(t, gone.err)
		})
	}
}

func TestRouterStops(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a")
	s.settle()
	waiting := routerSubscribe(t, c, "b")
	require.Equal(t, []*Consumer{c}, hub.router.stop())
	require.True(t, routerDone(waiting))
	require.ErrorIs(t, waiting.err, ErrStopped)
	_, err := hub.router.subscribe(c, []string{"c"})
	require.ErrorIs(t, err, ErrStopped)
	s.notify("a 1")
	require.Equal(t, []string{"subscribe a"}, unitTake(c))
}
