package pghub

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

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

func (routerFuncCodec) Decode(*Event) error { return nil }

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
