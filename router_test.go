package pghub

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

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

// Events are decoded once for all consumers that share a codec.
func TestRouterDecodesOnce(t *testing.T) {
	hub, s, _ := routerUp(t, Config{})
	var shared, own, panicking atomic.Int32
	codecs := []Codec{&routerCodec{decoded: &shared}, nil, &routerCodec{decoded: &own}, &routerCodec{decoded: &panicking, fail: true}}
	codecs[1] = codecs[0]
	var consumers []*Consumer
	for _, codec := range codecs {
		c := unitConsumer(t, hub, ConsumerConfig{Codec: codec})
		routerSubscribe(t, c, "a")
		consumers = append(consumers, c)
	}
	s.settle()
	s.notify("a 1", "a 2", "a 3")
	var events [][]*Event
	for _, c := range consumers {
		events = append(events, unitTakeEvents(c))
	}
	require.Equal(t, int32(3), shared.Load())
	require.Equal(t, int32(3), own.Load())
	require.Len(t, events[0], 4)
	require.Same(t, events[0][1], events[1][1])
	require.NotSame(t, events[0][1], events[2][1])
	require.Len(t, events[3], 1, "a codec that fails harms nobody else")
	require.Equal(t, uint64(3), hub.Stats().Undecodable)
	require.Equal(t, uint64(3), hub.Stats().Received)
}

type routerCodec struct {
	KeyValueCodec
	decoded *atomic.Int32
	fail    bool
}

func (c *routerCodec) Decode(*Event) error {
	c.decoded.Add(1)
	if c.fail {
		panic("oops")
	}
	return nil
}

// Codecs that Go cannot compare are no trouble.
func TestRouterTakesAnyCodec(t *testing.T) {
	type hidden struct{ Codec }
	hub, s, _ := routerUp(t, Config{})
	for _, codec := range []Codec{routerFuncCodec{func() {}}, hidden{routerFuncCodec{func() {}}}} {
		for range 2 {
			routerSubscribe(t, unitConsumer(t, hub, ConsumerConfig{Codec: codec}), "a")
		}
	}
	s.settle()
	require.Len(t, hub.router.channels["a"].groups, 4)
}

type routerFuncCodec struct{ f func() }

func (routerFuncCodec) Append([]byte, []int64, any) ([]byte, error) { return nil, nil }
func (routerFuncCodec) Decode(*Event) error                         { return nil }

// A burst keeps its order across topics. What nobody wants is counted, what cannot be decoded is reported too.
func TestRouterRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		hub, s, both := routerUp(t, Config{OnError: func(err error) { told = append(told, err) }, Codec: KeyValueCodec{Strict: true}})
		one := unitConsumer(t, hub, ConsumerConfig{})
		routerSubscribe(t, both, "a", "b")
		routerSubscribe(t, one, "b")
		s.settle()
		s.listening["strange"] = true
		s.notify("a e1", "a e2", "b e3", "a oops", "strange e4", "a e5", "b e6", "b e--7", "b e8:{}x")
		require.Equal(t, []string{"subscribe a", "subscribe b", "a e1", "a e2", "b e3", "a e5", "b e6"}, unitTake(both))
		require.Equal(t, []string{"subscribe b", "b e3", "b e6"}, unitTake(one))
		synctest.Wait()
		require.Len(t, told, 3)
		for i, want := range []DecodeError{{"a", []byte("oops"), errNoE}, {"b", []byte("e--7"), errEmptyKey}, {"b", []byte("e8:{}x"), errInvalidJSON}} {
			var refused *DecodeError
			require.ErrorAs(t, told[i], &refused)
			require.Equal(t, want, *refused)
		}
		stats := hub.Stats()
		require.Equal(t, []uint64{9, 1, 3}, []uint64{stats.Received, stats.Unwanted, stats.Undecodable})
	})
}

// Since the server looks through its list for every notification, the busiest topics come first after a reconnection.
func TestRouterListensToBusiestFirst(t *testing.T) {
	_, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a", "b", "c")
	s.settle()
	s.notify("b 1", "c 2", "c 3")
	s.detach(io.EOF)
	s.attach()
	s.said = nil
	s.ask()
	require.Equal(t, []string{`LISTEN "c";LISTEN "b";LISTEN "a"`}, s.said)
}

func TestRouterClosesSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		hub, s, other := routerUp(t, Config{OnError: func(err error) { told = append(told, err) }})
		c := unitConsumer(t, hub, ConsumerConfig{QueueSize: 2, Overflow: CloseConsumer})
		routerSubscribe(t, c, "a", "b")
		routerSubscribe(t, other, "a")
		s.settle()
		waiting := routerSubscribe(t, c, "under way")
		s.notify("a 1", "b 2")
		require.NoError(t, c.ctx.Err())
		s.notify("a 3", "a 4")
		require.Error(t, c.ctx.Err())
		require.ErrorIs(t, waiting.err, ErrClosed)
		_, err := hub.router.subscribe(c, []string{"c"})
		require.ErrorIs(t, err, ErrClosed)
		require.Empty(t, c.Topics())
		s.settle()
		require.Equal(t, map[string]bool{"a": true}, s.listening)
		events := unitTakeEvents(c)
		require.Len(t, events, 1)
		require.ErrorIs(t, events[0].Advisory.Err, ErrSlowConsumer)
		require.Equal(t, []string{"subscribe a", "a 1", "a 3", "a 4"}, unitTake(other))
		synctest.Wait()
		require.Len(t, told, 1)
		require.ErrorIs(t, told[0], ErrSlowConsumer)
	})
}

// Consumers that a burst closes are taken out of the lists that it is being distributed by.
func TestRouterClosesSlowConsumersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, s, _ := routerUp(t, Config{})
		codecs := []Codec{RawCodec{}, JSONCodec{}, JSONCodec{Strict: true}}
		for _, groups := range []int{1, 3} {
			var slow, fast []*Consumer
			for i := range 12 {
				cfg := ConsumerConfig{Codec: codecs[i%groups]}
				isSlow := i%3 == 0 || i%4 == 0 // with three groups, all of the first
				if isSlow {
					cfg.QueueSize, cfg.Overflow = 2, CloseConsumer
				}
				c := unitConsumer(t, hub, cfg)
				routerSubscribe(t, c, "a")
				if isSlow {
					slow = append(slow, c)
				} else {
					fast = append(fast, c)
				}
			}
			s.settle()
			s.notify("a 1", "a 2", "a 3")
			for _, c := range slow {
				require.Error(t, c.ctx.Err())
			}
			for _, c := range fast {
				require.Equal(t, []string{"subscribe a", "a 1", "a 2", "a 3"}, unitTake(c))
				hub.router.remove(c)
			}
		}
	})
}

// Topics that come and go while the handler is stuck leave the news of that in its queue, and no event.
func TestQueueOfAStuckHandlerStaysShort(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "had")
	s.settle()
	for range 100 {
		routerSubscribe(t, c, "a", "b")
		s.settle()
		s.notify("a 1", "had 2", "b 3")
		hub.router.unsubscribe(c, []string{"a", "b"})
		s.settle()
	}
	require.Equal(t, 301, c.queue.ring.n, "one subscribe, and two of them and an event in each round")
	require.Equal(t, 100, c.Stats().Queued)
	require.NoError(t, errors.Join(c.Close()))
}
