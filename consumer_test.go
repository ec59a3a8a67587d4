package pghub

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestSupervisoryEventsToTheLetter(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "name", `a"é`)
		startHub(t, hub)
		server.Kill()
		w.await(t, `{"action":"reconnect","final":false}`)
		other, _ := watch(t, hub)
		require.NoError(t, c.Close())
		awaitClosed(t, c.Done(), "the end of the consumer")
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{
			`{"action":"connect","final":false}`,
			`{"action":"subscribe","topic":"name","final":false}`,
			`{"action":"subscribe","topic":"a\"é","final":false}`,
			`{"action":"disconnect","final":false}`,
			`{"action":"reconnect","final":false}`,
			`{"action":"close","final":true}`,
		}, w.lines())
		require.Equal(t, []string{`{"action":"stop","final":true}`}, other.lines())
		for _, ev := range w.seen {
			require.Empty(t, ev.Topic)
			require.Empty(t, ev.Key)
			require.Nil(t, ev.Payload)
			require.Equal(t, ev.Advisory.Action == ActionClose, ev.Advisory.Final)
			b, err := json.Marshal(ev)
			require.NoError(t, err)
			require.Equal(t, `{"topic":null,"key":[],"value":`+string(ev.Value)+`}`, string(b))
		}
	})
}

// Subscriptions are announced in the order in which they were made.
func TestTheStreamOfAConsumerMadeBeforeStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "b", "a")
		require.NoError(t, c.Subscribe(within(t), "d", "c"))
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		require.Equal(t, []string{"b", "c", "d"}, c.Topics())
		synctest.Wait()
		require.Empty(t, w.lines())
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("b"), lineSubscribe("d"), lineSubscribe("c"))
		require.Equal(t, []string{`LISTEN "b";LISTEN "c";LISTEN "d"`}, sortedStatements(server))
	})
}

func sortedStatements(server *fakepg.Server) (sent []string) {
	for _, sql := range listensSince(server, 0) {
		parts := strings.Split(sql, ";")
		slices.Sort(parts)
		sent = append(sent, strings.Join(parts, ";"))
	}
	return sent
}

// Everything that was subscribed to before Start may be gone by then.
func TestStartWithNothingToListenTo(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ProbeInterval: -1})
		w, c := watch(t, hub, "a")
		closed, other := watch(t, hub, "b")
		require.NoError(t, c.Unsubscribe(within(t), "a"))
		require.NoError(t, other.Close())
		startHub(t, hub)
		w.expect(t, lineConnect)
		closed.expect(t, lineClose)
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
	})
}

func TestTheStreamOfAConsumerMadeAfterStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		w, c := watch(t, hub, "b", "a")
		require.NoError(t, c.Subscribe(within(t), "c"))
		w.expect(t, lineSubscribe("b"), lineSubscribe("a"), lineSubscribe("c"))
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		server.Notify("c", "e")
		w.expect(t, "c e")
	})
}

// Only what is new is announced after an outage; who came during it has not missed anything and hears of no loss.
func TestTheStreamsOfAnOutage(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a", "b")
		startHub(t, hub)
		server.RefuseDials(errRefusedByTest)
		server.Kill()
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"), lineDisconnect)

		calls := []<-chan error{
			background(func() error { return c.Subscribe(context.Background(), "c") }),
			background(func() error { return c.Subscribe(context.Background(), "a") }), // it has that one, but not in effect
		}
		require.NoError(t, c.Unsubscribe(within(t), "b"))
		newcomer, other := watch(t, hub)
		calls = append(calls, background(func() error { return other.Subscribe(context.Background(), "a") }))
		made := newWitness()
		calls = append(calls, background(func() error {
			_, err := hub.Consumer(context.Background(), made.handle, &ConsumerConfig{Topics: []string{"d"}})
			return err
		}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.ErrorIs(t, c.Subscribe(ctx, "never"), context.DeadlineExceeded)
		for _, call := range calls {
			require.Empty(t, call)
		}

		server.RefuseDials(nil)
		for _, call := range calls {
			require.NoError(t, outcome(t, call))
		}
		w.expect(t, lineReconnect, lineSubscribe("c"))
		newcomer.expect(t, lineSubscribe("a"))
		made.expect(t, lineSubscribe("d"))
		require.Equal(t, []string{"a", "c", "d"}, server.Listening())

		server.Kill() // a loss that all of them have seen
		for _, w := range []*witness{w, newcomer, made} {
			w.expect(t, lineDisconnect, lineReconnect)
			require.Empty(t, w.rest())
		}
	})
}

// gate is a handler that waits, at every event or as told, to be let through.
type gate struct {
	*witness
	entered chan *Event   // before it waits
	open    chan struct{} // closed: it waits no more
}

func newGate() *gate {
	return &gate{witness: newWitness(), entered: make(chan *Event, 1), open: make(chan struct{})}
}

func (g *gate) handle(ctx context.Context, ev *Event) {
	select {
	case g.entered <- ev:
	default:
	}
	<-g.open
	g.witness.handle(ctx, ev)
}

// All consumers of the same topics see the same order.
func TestEveryConsumerSeesTheOrderOfCommit(t *testing.T) {
	hub := realHub(t, Config{})
	var witnesses []*witness
	for range 4 {
		w, _ := watch(t, hub, "a", "b", "c")
		witnesses = append(witnesses, w)
	}
	startHub(t, hub)
	var publishers sync.WaitGroup
	for i := range 8 {
		publishers.Go(func() {
			for j := range 100 {
				_ = hub.Notify(context.Background(), string("abc"[j%3]), []int64{int64(i), int64(j)}, nil)
			}
		})
	}
	publishers.Wait()
	require.NoError(t, hub.Stop(within(t)))
	events := slices.DeleteFunc(witnesses[0].lines(), func(l string) bool { return strings.Contains(l, "subscribe") })
	require.Len(t, events, 802)
	for _, w := range witnesses[1:] {
		require.Equal(t, events, slices.DeleteFunc(w.lines(), func(l string) bool { return strings.Contains(l, "subscribe") }))
	}
}
