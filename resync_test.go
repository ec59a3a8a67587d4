package pghub

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/source"
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

func onItsOwn(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

func burstOf(words ...[2]string) (b []source.Message) {
	for _, w := range words {
		b = append(b, codecNotification(w[0], w[1]))
	}
	return b
}

// What was staged when a codec ended the session is delivered before the loss is announced.
func TestRouterDeliversWhatWasStagedBeforeGoexit(t *testing.T) {
	hub, s, c := routerUp(t, Config{Codec: exitingCodec{}})
	routerSubscribe(t, c, "a", "b")
	s.settle()
	unitTake(c)
	onItsOwn(func() { hub.router.Burst(burstOf([2]string{"a", "e1"}, [2]string{"b", "exit"}), false) })
	s.detach(errGoexit)
	s.attach()
	s.settle()
	require.Equal(t, []string{"a e1", "disconnect", "reconnect"}, unitTake(c))
	hub.router.Burst(burstOf([2]string{"a", "e2"}), false)
	require.Equal(t, []string{"a e2"}, unitTake(c))
}

// A consumer that the next burst was to wake is woken when a codec ends the session.
func TestRouterWakesAfterGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := unitHub(t, Config{Codec: exitingCodec{}})
		w, _ := watch(t, hub, "a", "b")
		hub.router.start()
		s := newUnitServer(hub)
		s.attach()
		s.settle()
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
		synctest.Wait()
		hub.router.Burst(burstOf([2]string{"a", "e1"}), true)
		onItsOwn(func() { hub.router.Burst(burstOf([2]string{"b", "exit"}), false) })
		s.detach(errGoexit)
		s.attach()
		s.settle()
		time.Sleep(time.Hour)
		require.Equal(t, []string{"a e1", lineDisconnect, lineReconnect}, w.rest())
		hub.Stop(context.Background())
	})
}

// The same on a session.
func TestGoexitInACodecDeliversWhatCameBefore(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{Codec: exitingCodec{}})
		w, _ := watch(t, hub, "a", "b")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
		server.Send(&pgproto3.NotificationResponse{PID: 7, Channel: "a", Payload: "e1"}, &pgproto3.NotificationResponse{PID: 7, Channel: "b", Payload: "exit"})
		w.expect(t, "a e1", lineDisconnect, lineReconnect)
		server.Notify("a", "e2")
		synctest.Wait()
		require.Equal(t, []string{"a e2"}, w.rest())
	})
}

// Stop called by the body of a loop within a handler waits for neither of them.
func TestStopInALoopInAHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		stopped := make(chan error, 1)
		_, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
			if ev.Topic == "a" {
				for range hub.Events(ctx, "b") {
					wait, cancel := context.WithTimeout(ctx, time.Minute)
					stopped <- hub.Stop(wait)
					cancel()
					return
				}
			}
		}, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		server.Notify("a", "e")
		require.NoError(t, <-stopped)
	})
}

// The gap of a topic that was refused in one session, and is back in the next, begins with the first loss.
func TestRouterGapOfATopicThatWasRefusedBefore(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a", "b")
	s.settle()
	unitTake(c)
	first := time.Now()
	hub.router.detach(first, errors.New("first"))
	s.refuses["a"] = true
	s.attach()
	s.settle()
	hub.router.detach(first.Add(time.Hour), errors.New("second"))
	delete(s.refuses, "a")
	s.attach()
	s.settle()
	earliest := time.Time{}
	events := unitTakeEvents(c)
	for _, ev := range events[2:] { // behind the first disconnect and reconnect
		if a := ev.Advisory; a.wantsResync() && (earliest.IsZero() || a.Gap.Since.Before(earliest)) {
			earliest = a.Gap.Since
		}
	}
	require.Equal(t, first, earliest)
}

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

// Delivered counts what handlers saw, and no marks.
func TestDeliveredCountsWhatHandlersSaw(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		var calls atomic.Uint64
		c, err := hub.Consumer(t.Context(), func(context.Context, *Event) { calls.Add(1) },
			&ConsumerConfig{Topics: []string{"a"}, Resync: func(context.Context, Gap) error { return nil }, ResyncFirst: true})
		require.NoError(t, err)
		startHub(t, hub)
		synctest.Wait()
		require.Equal(t, calls.Load(), c.Stats().Delivered)
	})
}

// Queued does not count what closing has made void.
func TestQueueCountsNothingVoidAsWaiting(t *testing.T) {
	var b brake
	q := newQueue(128, DropOldest, &b)
	q.put(0, queueRun("a", 1, 2, 3, 4))
	require.NotNil(t, q.next())
	q.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), true)
	_, _, _, waiting := q.current()
	require.Zero(t, waiting)
}

// A close by overflow does not count what was unsubscribed before.
func TestQueueCloseCountsNothingRevoked(t *testing.T) {
	var b brake
	q := newQueue(128, CloseConsumer, &b)
	q.put(0, queueRun("a", 1, 2))
	require.NotNil(t, q.next())
	q.revoke("a")
	numbers := make([]int, 129)
	q.put(0, queueRun("b", numbers...))
	q.done()
	ev := q.next()
	require.Equal(t, ActionClose, ev.Advisory.Action)
	require.EqualValues(t, 129, ev.Advisory.Dropped)
}

// countedContext is a context of a kind that package context does not know: a child of it needs a goroutine until it ends.
type countedContext struct {
	context.Context
	done chan struct{}
}

func (c *countedContext) Done() <-chan struct{} { return c.done }

func (c *countedContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func TestNoContextIsLeftAfterStop(t *testing.T) {
	base := &countedContext{context.Background(), make(chan struct{})}
	defer close(base.done)
	hub := unitHub(t, Config{BaseContext: base})
	require.NoError(t, hub.Stop(within(t)))
	before := runtime.NumGoroutine()
	for range 100 {
		_, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
		require.ErrorIs(t, err, ErrStopped)
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+50 }, 5*time.Second, time.Millisecond)
}

// A nil context leaves no consumer behind.
func TestNilContextLeavesNothing(t *testing.T) {
	var none context.Context
	for name, use := range map[string]func(hub *Hub){
		"loop": func(hub *Hub) {
			for range hub.Events(none, "a") {
				break
			}
		},
		"consumer": func(hub *Hub) { _, _ = hub.Consumer(none, func(context.Context, *Event) {}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			hub := unitHub(t, Config{})
			func() {
				defer func() { _ = recover() }()
				use(hub)
			}()
			n := hub.Stats().Consumers
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := outcome(t, background(func() error { return hub.Stop(ctx) }))
			require.NoError(t, err)
			require.Zero(t, n)
		})
	}
}

// A Resync that is given up because BaseContext has ended is reported.
func TestBaseContextEnds(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		base, end := context.WithCancel(context.Background())
		log := newErrorLog()
		hub := fakeHub(t, server, Config{BaseContext: base, OnError: log.onError})
		l := newLoader()
		_, err := hub.Consumer(t.Context(), l.handle, &ConsumerConfig{Topics: []string{"a"}, Resync: l.resync, ResyncFirst: true})
		require.NoError(t, err)
		end()
		startHub(t, hub)
		server.Notify("a", "e1")
		synctest.Wait()
		require.Contains(t, l.lines(), "a e1")
		require.NotContains(t, l.lines(), lineFirstLoad)
		require.Len(t, log.all(), 1)
		require.ErrorContains(t, log.all()[0], "BaseContext has ended")
	})
}

// What is listened to is a part of the topics, also while UNLISTEN is under way.
func TestStatsListeningIsAmongTopics(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a")
	s.settle()
	hub.router.unsubscribe(c, []string{"a"})
	st := hub.Stats()
	require.LessOrEqual(t, st.Listening, st.Topics)
}

// Whoever asks for a refused topic has it tried at once.
func TestSubscribeAgainToARefusedTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		var on atomic.Bool
		refuseWhile(server, "a", "53000", &on)
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		on.Store(true)
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		on.Store(false)
		began := time.Now()
		require.NoError(t, c.Subscribe(t.Context(), "a"))
		require.Less(t, time.Since(began), time.Second)
	})
}

// A loop's body in Drain of a consumer, and that one's handler in Stop, do not wait for each other.
func TestDrainInALoop(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, err := New(Config{ListenConfig: server.Config()})
		require.NoError(t, err)
		stopped := make(chan error, 1)
		var both sync.WaitGroup // have their event: else Stop might come before the loop's
		both.Add(2)
		y, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
			if ev.Topic == "y" {
				both.Done()
				both.Wait()
				stopped <- hub.Stop(ctx)
			}
		}, &ConsumerConfig{Topics: []string{"y"}})
		require.NoError(t, err)
		startHub(t, hub)
		drained := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ev := range hub.Events(context.Background(), "l") {
				if ev.Topic == "l" {
					both.Done()
					both.Wait()
					drained <- y.Drain(ctx)
				}
			}
		}()
		synctest.Wait()
		server.Notify("y", "e")
		server.Notify("l", "e")
		time.Sleep(24 * time.Hour)
		require.Len(t, stopped, 1, "Stop")
		require.Len(t, drained, 1, "Drain")
	})
}

// Done is closed, and Stop has returned, while the worker is still at the roster.
