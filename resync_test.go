package pghub

import (
	"context"
	"errors"
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

// Run waits where waiting may help: a LISTEN that is cancelled, or finds the server out of memory, is asked for again. A
// name that will never do ends it.
func TestRunAndARefusedListen(t *testing.T) {
	for code, hopeless := range map[string]bool{"57014": false, "53200": false, "55P03": false, "42501": true, "22023": true} {
		t.Run(code, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				var refusing atomic.Bool
				refusing.Store(true)
				refuseWhile(server, "a", code, &refusing)
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ran := background(func() error { return hub.Run(ctx) })
				if hopeless {
					var refusal *ListenError
					require.ErrorAs(t, outcome(t, ran), &refusal)
					return
				}
				time.Sleep(time.Minute)
				require.Empty(t, w.lines())
				refusing.Store(false)
				w.expect(t, lineConnect, lineSubscribe("a"))
				cancel()
				require.NoError(t, outcome(t, ran))
			})
		})
	}
}

// A codec that ends its goroutine ends the connection, which is announced, and not the hub.
func TestGoexitInACodec(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		log := newErrorLog()
		hub := fakeHub(t, server, Config{Codec: exitingCodec{}, OnError: log.onError})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
		server.Notify("a", "exit")
		w.expect(t, lineDisconnect, lineReconnect)
		server.Notify("a", "e2")
		w.expect(t, "a e2")
		require.ErrorIs(t, log.await(t, func(err error) bool { return errors.Is(err, ErrPanic) }), ErrPanic)
	})
}

type exitingCodec struct{ KeyValueCodec }

func (c exitingCodec) Decode(ev *Event) error {
	if string(ev.Payload) == "exit" {
		runtime.Goexit()
	}
	return c.KeyValueCodec.Decode(ev)
}
