package pghub

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/source"
)

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
