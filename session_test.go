package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestSubscribeWaitsForTheServer(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		release := server.Hold(mentions(`"a"`))
		started := background(func() error { return hub.Start(context.Background()) })
		synctest.Wait()
		require.Empty(t, w.lines())
		require.Empty(t, started)
		release()
		require.NoError(t, outcome(t, started))
		w.expect(t, lineConnect, lineSubscribe("a"))

		release = server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b", "a") })
		synctest.Wait()
		server.Notify("a", "e1") // is not held up
		w.expect(t, "a e1")
		require.Empty(t, subscribed)
		release()
		require.NoError(t, outcome(t, subscribed))
		server.Notify("b", "e2")
		w.expect(t, lineSubscribe("b"), "b e2")
	})
}

func TestUnsubscribeWaitsForTheServer(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a", "b")
		startHub(t, hub)
		release := server.Hold(mentions("UNLISTEN"))
		unsubscribed := background(func() error { return c.Unsubscribe(context.Background(), "a", "never had") })
		synctest.Wait()
		require.Empty(t, unsubscribed)
		server.Notify("a", "e1") // nobody's any more
		server.Notify("b", "e2")
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"), "b e2")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Unsubscribe(ctx, "b"), context.DeadlineExceeded)
		require.Empty(t, c.Topics(), "removed all the same")
		release()
		require.NoError(t, outcome(t, unsubscribed))
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.EqualValues(t, 1, hub.Stats().Unwanted)
	})
}

func TestABurstOfSubscribesIsOneStatement(t *testing.T) {
	const burst = 100
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		_, c := watch(t, hub)
		startHub(t, hub)
		release := server.Hold(mentions(`"first"`))
		calls := []<-chan error{background(func() error { return c.Subscribe(context.Background(), "first") })}
		synctest.Wait()
		before := len(server.Queries())
		for i := range burst {
			_, other := watch(t, hub)
			calls = append(calls, background(func() error { return other.Subscribe(context.Background(), fmt.Sprint(i%50)) }))
		}
		synctest.Wait()
		release()
		for _, call := range calls {
			require.NoError(t, outcome(t, call))
		}
		sent := listensSince(server, before)
		require.Len(t, sent, 1)
		require.Equal(t, 50, strings.Count(sent[0], "LISTEN"))
	})
}

func TestListenForTheFirstConsumerAndUnlistenAfterTheLast(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		ctx := within(t)
		w1, c1 := watch(t, hub, "a")
		w2, c2 := watch(t, hub, "a")
		w3, c3 := watch(t, hub, "a")
		w1.expect(t, lineSubscribe("a"))
		require.NoError(t, c1.Unsubscribe(ctx, "a"))
		require.NoError(t, c1.Subscribe(ctx, "a"))
		require.NoError(t, c1.Subscribe(ctx, "a"), "having it already is fine")
		for _, w := range []*witness{w1, w2, w3} {
			w.expect(t, lineSubscribe("a"))
		}
		require.Equal(t, []string{`LISTEN "a"`}, listensSince(server, 0))

		require.NoError(t, c1.Unsubscribe(ctx, "a"))
		require.NoError(t, c2.Close())
		require.Equal(t, []string{"a"}, server.Listening())
		require.NoError(t, c3.Drain(ctx))
		synctest.Wait()
		require.Equal(t, []string{`LISTEN "a"`, `UNLISTEN "a"`}, listensSince(server, 0))
		require.Empty(t, server.Listening())
		require.Zero(t, hub.Stats().Topics)
	})
}

func TestTopicsAreQuoted(t *testing.T) {
	topics := []string{"Orders", "orders", "user", `a"b`, "it's", "a;b", "-- no comment", "new\nline", "é", "日本", strings.Repeat("x", 63), " "}
	hub := realHub(t, Config{})
	w, _ := watch(t, hub, topics...)
	startHub(t, hub)
	w.expect(t, lineConnect)
	for range topics {
		require.Equal(t, ActionSubscribe, w.take(t).Advisory.Action)
	}
	for _, topic := range topics {
		require.NoError(t, hub.Notify(within(t), topic, nil, nil))
		w.expect(t, topic+" e")
	}
}

// LISTEN is under way for somebody who leaves, and UNLISTEN for somebody who comes back: the server is asked again.
func TestAChangeOfMindWhileTheServerAnswers(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub)
		startHub(t, hub)
		ctx := within(t)

		release := server.Hold(mentions("LISTEN"))
		subscribed := background(func() error { return c.Subscribe(ctx, "a") })
		synctest.Wait()
		require.NoError(t, c.Unsubscribe(ctx, "a"))
		require.Error(t, outcome(t, subscribed))
		release()
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.Equal(t, []string{`LISTEN "a"`, `UNLISTEN "a"`}, listensSince(server, 0))

		require.NoError(t, c.Subscribe(ctx, "a"))
		w.expect(t, lineConnect, lineSubscribe("a"))
		release = server.Hold(mentions("UNLISTEN"))
		unsubscribed := background(func() error { return c.Unsubscribe(ctx, "a") })
		synctest.Wait()
		subscribed = background(func() error { return c.Subscribe(ctx, "a") })
		synctest.Wait()
		require.Empty(t, subscribed, "the server is about to leave the channel")
		release()
		require.NoError(t, outcome(t, subscribed))
		require.NoError(t, outcome(t, unsubscribed))
		require.Equal(t, []string{"a"}, server.Listening())
		w.expect(t, lineSubscribe("a"))
	})
}

// While the hub comes back it may be asked to leave a channel that it listens to again already, and then to come back. That
// is not in effect before the server has heard of both.
func TestAChangeOfMindWhileTheHubComesBack(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		topics := append(numbered(channelsPerStatement-1), "x", "bad", "other")
		w, c := watch(t, hub, topics...)
		startHub(t, hub)
		for _, topic := range topics[:channelsPerStatement] { // these make the first statement, the others the second
			server.Notify(topic, "e")
			w.await(t, topic+" e")
		}
		server.RefuseQuery(refuseListen("bad"))
		releaseSecond := server.Hold(func(sql string) bool { return strings.Contains(sql, `"other"`) && strings.Contains(sql, `"bad"`) })
		server.Kill()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Contains(t, server.Listening(), "x")
		require.NoError(t, c.Unsubscribe(within(t), "x"))

		releaseOther := server.Hold(func(sql string) bool { return sql == `LISTEN "other"` || sql == `LISTEN "bad"` })
		releaseX := server.Hold(func(sql string) bool { return sql == `UNLISTEN "x"` })
		releaseSecond()
		_, err := server.WaitQuery(within(t), func(sql string) bool { return sql == `UNLISTEN "x"` })
		require.NoError(t, err)
		subscribed := background(func() error { return c.Subscribe(context.Background(), "x") })
		synctest.Wait()
		releaseOther()
		w.await(t, lineReconnect)
		require.Empty(t, subscribed, "the server is about to leave the channel")
		releaseX()
		require.NoError(t, outcome(t, subscribed))
		require.Contains(t, server.Listening(), "x")
		w.expect(t, lineSubscribe("x"))
	})
}

// The connection is full duplex: a LISTEN is written while the reader is in the middle of a message.
func TestWritingDoesNotInterruptReading(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		n := &pgproto3.NotificationResponse{PID: 7, Channel: "a", Payload: "e1:" + strings.Repeat(" ", 7000) + "2"}
		frame, err := n.Encode(nil)
		require.NoError(t, err)
		server.SendRaw(frame[:100])
		release := server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		_, err = server.WaitQuery(within(t), mentions(`"b"`))
		require.NoError(t, err)
		server.SendRaw(frame[100:])
		release()
		require.NoError(t, outcome(t, subscribed))
		w.expect(t, lineConnect, lineSubscribe("a"), "a "+n.Payload, lineSubscribe("b"))
	})
}

// Who waits for everything to be routed is told by the answer to whatever is asked next, be it a probe.
func TestAProbeIsABarrierToo(t *testing.T) {
	for _, probe := range []bool{true, false} {
		s := newSession(&link{}, &Config{}, newReporter(&Config{Logger: slog.New(slog.DiscardHandler)}))
		s.sink = nobody{}
		reached := make(chan struct{})
		s.barriers = []chan struct{}{reached}
		require.Len(t, s.batch(probe), 1)
		require.Empty(t, s.batch(false), "it is asked once")
		require.NoError(t, s.answer())
		awaitClosed(t, reached, "the barrier")
	}
}
