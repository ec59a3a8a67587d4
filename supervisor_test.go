package pghub

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

var errRefusedByTest error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// runInBackground runs a hub until the test ends.
func runInBackground(t *testing.T, hub *Hub) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := background(func() error { return hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, outcome(t, done))
	})
}

// probes is how many probes a server has been sent.
func probes(server *fakepg.Server) (n int) {
	for _, sql := range server.Queries() {
		if sql == probeSQL {
			n++
		}
	}
	return n
}

// since is what a server has been sent after the first n queries, but for the check of a new connection.
func listensSince(server *fakepg.Server, n int) (sent []string) {
	for _, sql := range server.Queries()[n:] {
		if strings.Contains(sql, "LISTEN") {
			sent = append(sent, sql)
		}
	}
	return sent
}

func mentions(part string) func(string) bool {
	return func(sql string) bool { return strings.Contains(sql, part) }
}

// What was wanted when the connection was lost is asked for in one round trip, in statements of a thousand channels, and
// reconnect is announced when the server has answered for the last of them.
func TestReconnectComesAfterEveryChannel(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		topics := make([]string, 2500)
		for i := range topics {
			topics[i] = fmt.Sprintf("t%04d", i)
		}
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, topics...)
		startHub(t, hub)
		w.expect(t, lineConnect)
		for _, topic := range topics {
			w.expect(t, lineSubscribe(topic))
		}

		before := len(server.Queries())
		var releases []func()
		nth := numberedListens()
		for i := range 3 {
			releases = append(releases, server.Hold(func(sql string) bool { return nth(sql) == i }))
		}
		server.Kill()
		w.expect(t, lineDisconnect)
		passing(t, time.Millisecond, func() bool { return len(listensSince(server, before)) > 0 })
		sent := listensSince(server, before)
		require.Len(t, sent, 3, "all of them are on their way before the first answer")
		require.Equal(t, []int{1000, 1000, 500}, []int{
			strings.Count(sent[0], "LISTEN"), strings.Count(sent[1], "LISTEN"), strings.Count(sent[2], "LISTEN"),
		})
		for i, release := range releases {
			for _, topic := range topics {
				server.Notify(topic, "e") // nobody can tell whether others were missed: not before reconnect
			}
			synctest.Wait()
			require.Empty(t, w.rest())
			require.Len(t, server.Listening(), 1000*i)
			require.Equal(t, StateConnecting, hub.State())
			release()
		}
		w.expect(t, lineReconnect)
		require.Equal(t, topics, server.Listening())
		server.Notify("t2499", "e1")
		w.expect(t, "t2499 e1")
	})
}

// numberedListens tells which of the statements with LISTEN one is, from 0; -1: it is none.
func numberedListens() func(sql string) int {
	var known []string
	return func(sql string) int {
		if !strings.Contains(sql, "LISTEN") {
			return -1
		}
		if !slices.Contains(known, sql) {
			known = append(known, sql)
		}
		return slices.Index(known, sql)
	}
}

// The server searches its list of channels from the front for every notification.
func TestTheBusiestTopicsAreListenedToFirst(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "quiet", "busy", "busiest")
		startHub(t, hub)
		for _, topic := range []string{"busiest", "busy", "busiest"} {
			server.Notify(topic, "e")
		}
		w.await(t, "busiest e")
		w.await(t, "busiest e")
		before := len(server.Queries())
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		require.Equal(t, []string{`LISTEN "busiest";LISTEN "busy";LISTEN "quiet"`}, listensSince(server, before))
	})
}

func TestAConnectionLostWhileItComesUpIsPartOfTheSameGap(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ReconnectMin: time.Second, ReconnectMax: time.Second})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		heard := time.Now()

		release := server.Hold(mentions("LISTEN"))
		server.Kill()
		for range 5 {
			time.Sleep(time.Second)
			synctest.Wait()
			server.Kill()
		}
		release()
		w.expect(t, lineDisconnect)
		back := w.take(t)
		require.Equal(t, lineReconnect, lineOf(back))
		require.Equal(t, heard, back.Advisory.Gap.Since)
		synctest.Wait()
		require.EqualValues(t, 1, hub.Stats().Reconnects)
	})
}

func TestStatsFollowTheConnection(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		made := time.Now()
		require.Equal(t, Stats{State: StateIdle, Since: made}, hub.Stats())
		time.Sleep(time.Hour)
		w, _ := watch(t, hub, "a", "b")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
		server.Notify("a", "e")
		w.expect(t, "a e")
		synctest.Wait()
		require.Equal(t, Stats{
			State: StateListening, Since: made.Add(time.Hour), Server: "pipe", PID: 1001, Attempts: 1,
			Consumers: 1, Topics: 2, Listening: 2, Received: 1, Delivered: 4,
		}, hub.Stats())

		server.RefuseDials(errRefusedByTest)
		server.Kill()
		w.expect(t, lineDisconnect)
		synctest.Wait()
		st := hub.Stats()
		require.Equal(t, StateWaiting, st.State)
		require.Zero(t, st.PID)
		require.Zero(t, st.Listening)
		require.Error(t, st.LastError)

		server.RefuseDials(nil)
		w.expect(t, lineReconnect)
		synctest.Wait()
		st = hub.Stats()
		require.EqualValues(t, 1, st.Reconnects)
		require.EqualValues(t, 1002, st.PID)
		require.Equal(t, 2, st.Listening)

		require.NoError(t, hub.Stop(within(t)))
		st = hub.Stats()
		require.Equal(t, StateStopped, st.State)
		require.Zero(t, st.Consumers+st.Topics+st.Listening+st.Queued)
		require.EqualValues(t, 7, st.Delivered)
	})
}
