package pghub

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestEachConsumerHasItsOwnCodec(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		consumer := func(codec Codec) *witness {
			w := newWitness()
			_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"a"}, Codec: codec})
			require.NoError(t, err)
			return w
		}
		keyValue, raw, json := consumer(nil), consumer(RawCodec{}), consumer(JSONCodec{})
		startHub(t, hub)
		server.Notify("a", `e7:{"x":1}`)
		server.Notify("a", `{"x":1}`)
		for _, w := range []*witness{keyValue, raw, json} {
			w.expect(t, lineConnect, lineSubscribe("a"))
		}
		ev := keyValue.take(t)
		require.Equal(t, []int64{7}, ev.Key)
		require.Equal(t, `{"x":1}`, string(ev.Value))
		ev = raw.take(t)
		require.Nil(t, ev.Key)
		require.Nil(t, ev.Value)
		require.Equal(t, `e7:{"x":1}`, string(ev.Payload))
		raw.expect(t, `a {"x":1}`)
		json.take(t)
		require.Equal(t, `{"x":1}`, string(json.take(t).Value))
		synctest.Wait()
		require.Empty(t, keyValue.rest())
		require.EqualValues(t, 1, hub.Stats().Undecodable)
	})
}

// anyCodec is comparable as a type, and yet two of its values may not be.
type anyCodec struct {
	KeyValueCodec
	_    int
	with any
}

func TestCodecsThatCannotBeCompared(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{Codec: anyCodec{with: []int{1}}})
		w1, _ := watch(t, hub, "a")
		w2, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w1.expect(t, lineConnect, lineSubscribe("a"), "a e")
		w2.expect(t, lineConnect, lineSubscribe("a"), "a e")
	})
}

func TestUndecodablePayloadsHarmNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		for _, payload := range []string{"e1", "x", "", "e--1", "e9223372036854775808", "e2"} {
			server.Notify("a", payload)
		}
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1", "a e2")
		require.EqualValues(t, 4, hub.Stats().Undecodable)
		synctest.Wait()
		require.Len(t, errs.all(), 4)
		for i, payload := range []string{"x", "", "e--1", "e9223372036854775808"} {
			var undecodable *DecodeError
			require.ErrorAs(t, errs.all()[i], &undecodable)
			require.Equal(t, "a", undecodable.Topic)
			require.Equal(t, payload, string(undecodable.Payload))
		}
	})
}

type panickingCodec struct{ KeyValueCodec }

func (panickingCodec) Decode(*Event) error { panic("no good") }

func TestACodecThatPanicsHarmsNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		_, err := hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Topics: []string{"a"}, Codec: panickingCodec{}})
		require.NoError(t, err)
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		err = errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
		require.ErrorAs(t, err, new(*DecodeError))
	})
}

// OnError may be slow, call the hub, panic or end its goroutine.
func TestOnErrorThatMisbehaves(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		var hub *Hub
		var inside atomic.Int64
		hub = fakeHub(t, server, Config{OnError: func(err error) {
			defer inside.Add(-1)
			if inside.Add(1) > 1 {
				panic("OnError is concurrent with itself")
			}
			hub.Stats()
			time.Sleep(time.Second)
			errs.onError(err)
			switch len(errs.all()) {
			case 1:
				panic("no good")
			case 2:
				runtime.Goexit()
			}
		}})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		for range 4 {
			server.Notify("a", "undecodable")
		}
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		require.NoError(t, hub.Stop(context.Background()))
		require.Len(t, errs.all(), 4)
		require.Zero(t, inside.Load())
	})
}
