package pghub

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// loader is a handler with a Resync. Both write to one list.
type loader struct {
	*witness
	fail func(n int) error // of the n-th call, from 0
	n    int
}

func newLoader() *loader { return &loader{witness: newWitness(), fail: func(int) error { return nil }} }

func (l *loader) resync(_ context.Context, gap Gap) error {
	n := l.n
	l.n++
	err := l.fail(n)
	word := fmt.Sprintf("resync after %t", !gap.Since.IsZero())
	l.handle(context.Background(), &Event{Topic: word})
	return err
}

const (
	lineFirstLoad = "resync after false "
	lineReload    = "resync after true "
)

// refuseWhile refuses LISTEN of a topic with an SQLSTATE, as long as on is set.
func refuseWhile(server *fakepg.Server, topic, code string, on *atomic.Bool) {
	server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
		if on.Load() && strings.Contains(sql, "LISTEN \""+topic+"\"") {
			return &pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: "not now"}
		}
		return nil
	})
}

// The first load comes when all topics are in effect, and before what is committed after that.
func TestResyncFirst(t *testing.T) {
	for name, test := range map[string]struct {
		topics []string
		before bool // Start
		want   []string
	}{
		"made before Start": {[]string{"a", "b"}, true, []string{lineConnect, lineSubscribe("a"), lineSubscribe("b"), lineFirstLoad, "a e1"}},
		"made after Start":  {[]string{"a", "b"}, false, []string{lineSubscribe("a"), lineSubscribe("b"), lineFirstLoad, "a e1"}},
		"topics come later": {nil, false, []string{lineSubscribe("a"), lineFirstLoad, "a e1"}},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				l := newLoader()
				if !test.before {
					startHub(t, hub)
				}
				c, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Topics: test.topics, Resync: l.resync, ResyncFirst: true})
				require.NoError(t, err)
				if test.before {
					startHub(t, hub)
				}
				if test.topics == nil {
					require.NoError(t, c.Subscribe(t.Context(), "a"))
				}
				server.Notify("a", "e1")
				l.expect(t, test.want...)

				require.NoError(t, c.Subscribe(t.Context(), "c"), "the first time is over")
				server.Terminate()
				l.expect(t, lineSubscribe("c"), lineDisconnect, lineReconnect, lineReload)
				synctest.Wait()
				require.Empty(t, l.rest())
			})
		})
	}
}

// Of several topics that the server takes one after the other, the last decides.
func TestResyncFirstWaitsForAll(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		watch(t, hub, "a") // the server listens to a already
		release := server.Hold(mentions(`LISTEN "b"`))
		l := newLoader()
		made := background(func() error {
			_, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Topics: []string{"a", "b"}, Resync: l.resync, ResyncFirst: true})
			return err
		})
		l.expect(t, lineSubscribe("a"))
		server.Notify("a", "e1")
		l.expect(t, "a e1")
		synctest.Wait()
		require.Empty(t, l.rest(), "b is not in effect yet")
		release()
		require.NoError(t, outcome(t, made))
		l.expect(t, lineSubscribe("b"), lineFirstLoad)
	})
}

// A topic that is unsubscribed before it was ever in effect holds the first load up no longer.
func TestResyncFirstWithoutATopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		l := newLoader()
		c, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Resync: l.resync, ResyncFirst: true})
		require.NoError(t, err)
		watch(t, hub, "a")
		defer server.Hold(mentions(`LISTEN "b"`))()
		pending := background(func() error { return c.Subscribe(t.Context(), "b") })
		synctest.Wait()
		require.NoError(t, c.Subscribe(t.Context(), "a"))
		l.expect(t, lineSubscribe("a"))
		synctest.Wait()
		require.Empty(t, l.rest(), "b is not in effect yet")
		unsubscribed := background(func() error { return c.Unsubscribe(t.Context(), "b") })
		require.ErrorIs(t, outcome(t, pending), errUnsubscribed)
		require.NoError(t, outcome(t, unsubscribed))
		l.expect(t, lineFirstLoad)
	})
}

func TestResyncFirstNeedsAResync(t *testing.T) {
	hub := unitHub(t, Config{})
	_, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{ResyncFirst: true})
	require.ErrorContains(t, err, "ResyncFirst needs a Resync")
}

// A Resync that ends its goroutine has not succeeded: it is reported, and called again before the next event.
func TestResyncSurvivesGoexit(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic(errRefusedByTest) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				log := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: log.onError})
				l := newLoader()
				l.fail = func(n int) error {
					if n < 3 {
						fail()
					}
					return nil
				}
				c, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Name: "prices", Topics: []string{"a"}, Resync: l.resync, ResyncFirst: true})
				require.NoError(t, err)
				startHub(t, hub)
				server.Notify("a", "e1")
				l.expect(t, lineConnect, lineSubscribe("a"), lineFirstLoad, "a e1")
				require.Equal(t, 4, l.n)
				require.EqualValues(t, 3, c.Stats().Panics)
				require.Len(t, log.all(), 3)
				require.ErrorIs(t, log.all()[0], ErrPanic)
				require.ErrorContains(t, log.all()[0], `resync of consumer "prices" (topics ["a"])`)
				if name == "panic" {
					require.ErrorIs(t, log.all()[0], errRefusedByTest, "what was thrown can be told")
				}
			})
		})
	}
}

// A topic that the server refuses when the connection comes back, and takes later, has a gap of its own: it is announced,
// and Resync is called for it.
func TestResyncOfALateTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ReconnectMax: 10 * time.Second})
		l := newLoader()
		_, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Topics: []string{"a", "b"}, Resync: l.resync})
		require.NoError(t, err)
		startHub(t, hub)
		var refusing atomic.Bool
		refusing.Store(true)
		refuseWhile(server, "b", "53200", &refusing)
		server.Terminate()
		l.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"), lineDisconnect)
		back := l.take(t).Advisory
		var refusal *ListenError
		require.ErrorAs(t, back.Err, &refusal)
		require.Equal(t, "b", refusal.Topic)
		l.expect(t, lineReload)
		server.Notify("a", "e1")
		server.Notify("b", "e2") // to nobody
		l.expect(t, "a e1")
		refusing.Store(false)
		late := l.take(t).Advisory
		require.Equal(t, ActionSubscribe, late.Action)
		require.Equal(t, "b", late.Topic)
		require.Equal(t, back.Gap.Since, late.Gap.Since)
		l.expect(t, lineReload)
		server.Notify("b", "e3")
		l.expect(t, "b e3")
	})
}

// Who publishes can announce a gap, as pghub.unmute does. The event is delivered as any other, and Resync is called behind it,
// for whoever has its topic, whatever the codec.
func TestResyncWhereAPublisherAnnouncesAGap(t *testing.T) {
	const announced = `e:{"pghub":"gap","op":"unmute","schema":"public","table":"a","since":"2024-01-02T03:04:05.678901Z","until":"2024-01-02T03:04:06Z"}`
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		log := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: log.onError})
		startHub(t, hub)
		var gaps []Gap
		loaders := map[string]*loader{}
		for name, cfg := range map[string]ConsumerConfig{"key value": {}, "JSON": {Codec: JSONCodec{Strict: true}}, "raw": {Codec: RawCodec{}}, "panic": {Codec: panickyCodec{}}} {
			l := newLoader()
			cfg.Topics, cfg.Resync = []string{"a", "b"}, l.resync
			if name == "key value" {
				cfg.Resync = func(ctx context.Context, gap Gap) error {
					gaps = append(gaps, gap)
					return l.resync(ctx, gap)
				}
			}
			_, err := hub.Consumer(t.Context(), l.handle, &cfg)
			require.NoError(t, err)
			l.expect(t, lineSubscribe("a"), lineSubscribe("b"))
			loaders[name] = l
		}
		other := newLoader()
		_, err := hub.Consumer(t.Context(), other.handle, &ConsumerConfig{Topics: []string{"c"}, Resync: other.resync})
		require.NoError(t, err)
		other.expect(t, lineSubscribe("c"))
		without, _ := watch(t, hub, "a") // no Resync
		without.expect(t, lineSubscribe("a"))

		server.Notify("a", announced)
		server.Notify("b", `{}`)
		for name, l := range loaders {
			l.expect(t, "a "+announced, lineReload)
			if name == "JSON" || name == "raw" {
				l.expect(t, "b {}")
			}
		}
		without.expect(t, "a "+announced)
		synctest.Wait()
		require.Empty(t, other.rest())
		require.Len(t, gaps, 1)
		require.ErrorIs(t, gaps[0].Err, ErrMuted)
		require.Equal(t, "2024-01-02 03:04:05.678901 +0000 UTC, 2024-01-02 03:04:06 +0000 UTC", gaps[0].Since.String()+", "+gaps[0].Until.String())
		for _, err := range log.all() { // what no codec may refuse is not reported
			var undecodable *DecodeError
			require.ErrorAs(t, err, &undecodable)
			require.Equal(t, "b", undecodable.Topic)
		}

		// The shortest form has no times. What only looks like it is an event.
		server.Notify("a", `e:{"pghub":"gap"}`)
		loaders["key value"].expect(t, `a e:{"pghub":"gap"}`, lineFirstLoad)
		for _, payload := range []string{`e:{"pghub":"gapped"}`, `e:{"pghub":"gap`, `e:{"pghub":"gap"`, `e:{"pghub":"gap"x}`, `e1:{"pghub":"gap"}`, `e:{"value":{"pghub":"gap"}}`} {
			server.Notify("a", payload)
			loaders["key value"].expect(t, "a "+payload)
		}
		synctest.Wait()
		require.Empty(t, loaders["key value"].rest())
	})
}

// panickyCodec decodes nothing.
type panickyCodec struct{ KeyValueCodec }

func (panickyCodec) Decode(*Event) error { panic(errRefusedByTest) }

// A failed Subscribe does not use up the first load.
func TestResyncFirstSurvivesAFailedSubscribe(t *testing.T) {
	hub, s, other := routerUp(t, Config{})
	routerSubscribe(t, other, "b")
	s.settle()
	loads := 0
	c := unitConsumer(t, hub, ConsumerConfig{ResyncFirst: true, Resync: func(context.Context, Gap) error { loads++; return nil }})
	req := routerSubscribe(t, c, "bad", "b")
	s.refuses["bad"] = true
	s.settle()
	require.Error(t, req.err)
	require.Empty(t, c.Topics())
	for _, ev := range unitTakeEvents(c) {
		require.False(t, ev.isResyncMark(), "no topic is in effect")
	}
	routerSubscribe(t, c, "b")
	s.settle()
	mark := false
	for _, ev := range unitTakeEvents(c) {
		mark = mark || ev.isResyncMark()
	}
	require.True(t, mark)
}

// Drain of a consumer does not load it for a topic that is still asked for.
func TestDrainLoadsNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		l := newLoader()
		c, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Resync: l.resync, ResyncFirst: true})
		require.NoError(t, err)
		_, err = hub.Consumer(t.Context(), func(context.Context, *Event) {}, &ConsumerConfig{Topics: []string{"b"}})
		require.NoError(t, err)
		synctest.Wait()
		server.Freeze(true) // so that a is still asked for
		defer server.Freeze(false)
		_, _ = hub.router.subscribe(c, []string{"a", "b"})
		require.NoError(t, c.Drain(t.Context()))
		require.NotContains(t, l.lines(), lineFirstLoad)
	})
}
