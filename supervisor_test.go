package pghub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/source"
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

func TestBackoffIsFullJitterBetweenItsBounds(t *testing.T) {
	const lowest, highest = 100 * time.Millisecond, 30 * time.Second
	for failures := range 100 {
		ceiling := highest
		if failures < 9 {
			ceiling = lowest << failures
		}
		shortest, longest := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			wait := backoff(failures, lowest, highest)
			shortest, longest = min(shortest, wait), max(longest, wait)
		}
		require.GreaterOrEqual(t, shortest, time.Duration(0))
		require.Less(t, shortest, ceiling/10, "after %d failures", failures)
		require.LessOrEqual(t, longest, ceiling, "after %d failures", failures)
		require.Greater(t, longest, ceiling*9/10, "after %d failures", failures)
	}
}

// Shifted often enough, a duration becomes a small number again.
func TestBackoffDoesNotOverflow(t *testing.T) {
	lowest := time.Duration(1<<34 + 1)
	var longest time.Duration
	for range 1000 {
		longest = max(longest, backoff(30, lowest, math.MaxInt64))
	}
	require.Greater(t, longest, time.Hour)
}

func TestAttemptsToConnectBackOff(t *testing.T) {
	const lowest, highest, attempts = 10 * time.Millisecond, 5 * time.Second, 300
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.RefuseDials(errRefusedByTest)
		hub := fakeHub(t, server, Config{ReconnectMin: lowest, ReconnectMax: highest})
		runInBackground(t, hub)
		passing(t, time.Second, func() bool { return len(server.Dials()) > attempts })

		var waits []time.Duration
		dials := server.Dials()
		for i := range attempts {
			ceiling := highest
			if i < 9 {
				ceiling = lowest << i
			}
			waits = append(waits, dials[i+1].Sub(dials[i]))
			require.LessOrEqual(t, waits[i], ceiling, "before attempt %d", i+1)
		}
		settled := waits[9:]
		require.Less(t, slices.Min(settled), highest/4)
		require.Greater(t, slices.Max(settled), highest*3/4)
		require.Equal(t, StateWaiting, hub.State())
		require.EqualValues(t, len(server.Dials()), hub.Stats().Attempts)
		require.ErrorIs(t, hub.Stats().LastError, syscall.ECONNREFUSED)
	})
}

// A server that accepts connections and drops them at once must not be stormed: the count of failures starts anew only
// after a session has been listening for ReconnectMax.
func TestBackoffStartsAnewAfterALongSessionOnly(t *testing.T) {
	const lowest, highest = 10 * time.Millisecond, 10 * time.Second
	flap := func(t *testing.T, session time.Duration) (longestWait time.Duration) {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{ReconnectMin: lowest, ReconnectMax: highest})
			startHub(t, hub)
			for range 40 {
				time.Sleep(session)
				server.Kill()
				lost := time.Now()
				passing(t, time.Millisecond, func() bool { return hub.State() == StateListening })
				longestWait = max(longestWait, time.Since(lost))
			}
		})
		return longestWait
	}
	require.LessOrEqual(t, flap(t, highest), lowest+time.Millisecond)
	require.Greater(t, flap(t, highest-time.Millisecond), highest/2)
}

func TestAnIdleConnectionIsProbed(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		for n := range 6 {
			require.Equal(t, n, probes(server))
			time.Sleep(defaultProbeInterval - time.Nanosecond)
			synctest.Wait()
			require.Equal(t, n, probes(server))
			time.Sleep(time.Nanosecond)
			synctest.Wait()
		}

		for range 100 { // what arrives is a sign of life
			time.Sleep(defaultProbeInterval - time.Second)
			server.Notify("a", "e")
			synctest.Wait()
		}
		require.Equal(t, 6, probes(server))
		time.Sleep(defaultProbeInterval)
		synctest.Wait()
		require.Equal(t, 7, probes(server))
		require.Len(t, w.rest(), 100)
	})
}

func TestASilentServerIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		time.Sleep(time.Second)
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
		heard := time.Now()

		server.Freeze(true)
		lost := w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		require.Equal(t, defaultProbeInterval+defaultProbeTimeout, time.Since(heard))
		require.ErrorIs(t, lost.Advisory.Err, ErrProbe)
		require.Equal(t, heard, lost.Advisory.Gap.Since)
		errs.await(t, func(err error) bool { return errors.Is(err, ErrProbe) })

		server.Freeze(false)
		back := w.take(t)
		require.Equal(t, lineReconnect, lineOf(back))
		require.Equal(t, heard, back.Advisory.Gap.Since)
		require.False(t, back.Advisory.Gap.Until.Before(heard.Add(defaultProbeInterval+defaultProbeTimeout)))
		require.ErrorIs(t, back.Advisory.Gap.Err, ErrProbe)
	})
}

func TestAnUnansweredListenIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		asked := time.Now()
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect)
		require.Equal(t, defaultProbeTimeout, time.Since(asked))
		release()
		w.expect(t, lineReconnect, lineSubscribe("b"))
		require.NoError(t, outcome(t, subscribed))
	})
}

// A server that is slow to answer, and yet sends notifications, is alive.
func TestABusyServerIsNotGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		for range 100 {
			time.Sleep(defaultProbeTimeout - time.Second)
			server.Notify("a", "e")
		}
		synctest.Wait()
		release()
		require.NoError(t, outcome(t, subscribed))
		require.NotContains(t, w.lines(), lineDisconnect)
	})
}

func TestProbesCanBeTurnedOff(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ProbeInterval: -1})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		server.Freeze(true)
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		time.Sleep(24 * time.Hour)
		require.Zero(t, probes(server))
		server.Freeze(false)
		require.NoError(t, outcome(t, subscribed))
		w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
	})
}

func TestAHungAttemptToConnectIsGivenUp(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.HangDials(true)
		server.Kill()
		w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect)
		time.Sleep(defaultReconnectMin) // until the second attempt
		require.Len(t, server.Dials(), 2)
		time.Sleep(connectTimeout + 2*defaultReconnectMin) // until the third
		require.Len(t, server.Dials(), 3)
		require.Equal(t, StateConnecting, hub.State())
		require.ErrorIs(t, hub.Stats().LastError, context.DeadlineExceeded)
		server.HangDials(false)
		w.expect(t, lineReconnect)
	})
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

func TestARefusedChannelKeepsNobodyElseFromListening(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "bad", "good", "other")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("bad"), lineSubscribe("good"), lineSubscribe("other"))

		server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if strings.Contains(sql, `"bad"`) {
				return &pgproto3.ErrorResponse{Code: "22P05", Message: "no equivalent"}
			}
			return nil
		})
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		require.Equal(t, []string{"good", "other"}, server.Listening())
		err := errs.await(t, func(err error) bool { return errors.As(err, new(*ListenError)) })
		require.EqualError(t, err, `pghub: LISTEN on topic "bad" refused: ERROR: no equivalent (SQLSTATE 22P05)`)
		server.Notify("good", "e1")
		w.expect(t, "good e1")

		// It is asked for again from time to time, without another word about it, and announced once it is in effect.
		before := len(server.Queries())
		time.Sleep(3 * defaultReconnectMax)
		synctest.Wait()
		require.Equal(t, []string{`LISTEN "bad"`, `LISTEN "bad"`, `LISTEN "bad"`}, listensSince(server, before))
		server.RefuseQuery(nil)
		w.expect(t, lineSubscribe("bad"))
		server.Notify("bad", "e2")
		w.expect(t, "bad e2")
		refusals := 0
		for _, err := range errs.all() {
			if errors.As(err, new(*ListenError)) {
				refusals++
			}
		}
		require.Equal(t, 1, refusals)
	})
}

func TestAFatalAnswerIsALostConnection(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))

		server.Notify("a", "e1")
		server.Terminate()
		w.expect(t, "a e1")
		lost := w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		var pgErr *pgconn.PgError
		require.ErrorAs(t, lost.Advisory.Err, &pgErr)
		require.Equal(t, "57P01", pgErr.Code)
		w.expect(t, lineReconnect)

		// So it is where a statement is under way, and where the pooler that says it leaves one field out.
		server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if sql != probeSQL {
				return nil
			}
			server.RefuseQuery(nil)
			return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P05", Message: "idle"}
		})
		lost = w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		require.ErrorAs(t, lost.Advisory.Err, &pgErr)
		require.Equal(t, "57P05", pgErr.Code)
		w.expect(t, lineReconnect)
	})
}

func TestAServerThatMakesNoSenseIsLeft(t *testing.T) {
	for name, sent := range map[string][]pgproto3.BackendMessage{
		"an answer to nothing":   {&pgproto3.ReadyForQuery{TxStatus: 'I'}},
		"an error about nothing": {&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: "?"}},
		"a message out of place": {&pgproto3.CopyInResponse{}},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				startHub(t, hub)
				server.Send(sent...)
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
			})
		})
	}
	t.Run("no protocol at all", func(t *testing.T) {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{})
			w, _ := watch(t, hub, "a")
			startHub(t, hub)
			server.SendRaw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
		})
	})
}

func TestNoticesAndParametersAreNoTrouble(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Send(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "a word"}, &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"})
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
	})
}

// slowWriter returns from its first writes only after the server has answered.
type slowWriter struct {
	net.Conn
	writes atomic.Int64
}

func (c *slowWriter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.writes.Add(1) <= 3 {
		time.Sleep(100 * time.Millisecond)
	}
	return n, err
}

// pgx then reads in the background, and would take the answer to the first LISTEN from the session.
func TestASlowSocketIsHandedOverWhole(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		cfg := server.Config()
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := server.Dial(ctx, network, addr)
			return &slowWriter{Conn: conn}, err
		}
		hub := hubOf(t, Config{ListenConfig: cfg})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
		require.EqualValues(t, 1, hub.Stats().Attempts)
	})
}

func TestStopInEveryStateOfTheSupervisor(t *testing.T) {
	const outage, noOutage = true, false
	for name, test := range map[string]struct {
		trouble func(server *fakepg.Server)
		during  State
		outage  bool
	}{
		"listening":                {func(*fakepg.Server) {}, StateListening, noOutage},
		"waiting":                  {func(s *fakepg.Server) { s.RefuseDials(errRefusedByTest); s.Kill() }, StateWaiting, outage},
		"connecting":               {func(s *fakepg.Server) { s.HangDials(true); s.Kill() }, StateConnecting, outage},
		"not answered for LISTEN":  {func(s *fakepg.Server) { s.Hold(mentions("LISTEN")); s.Kill() }, StateConnecting, outage},
		"not answered at start-up": {func(s *fakepg.Server) { s.Hold(mentions("pg_is_in_recovery")); s.Kill() }, StateConnecting, outage},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{ReconnectMin: time.Hour, ReconnectMax: time.Hour, ProbeInterval: -1})
				w, _ := watch(t, hub, "a")
				startHub(t, hub)
				test.trouble(server)
				passing(t, time.Minute, func() bool { return hub.State() == test.during })
				began := time.Now()
				require.NoError(t, hub.Stop(within(t)))
				require.Less(t, time.Since(began), time.Second)
				expected := []string{lineConnect, lineSubscribe("a"), lineStop}
				if test.outage {
					expected = slices.Insert(expected, 2, lineDisconnect)
				}
				require.Equal(t, expected, w.lines())
				require.Equal(t, StateStopped, hub.State())
			})
		})
	}
}

// The server closes its end as soon as it is told goodbye: no loss, and so no disconnect.
func TestStopIsNoLossOfTheConnection(t *testing.T) {
	for range 100 {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{})
			w, _ := watch(t, hub)
			startHub(t, hub)
			require.NoError(t, hub.Stop(within(t)))
			require.Equal(t, []string{lineConnect, lineStop}, w.lines())
		})
	}
}

// Stop waits for what was committed before, but not for a server that says nothing more: that is a loss.
func TestStopWithASilentServer(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Freeze(true)
		server.Notify("a", "e")
		began := time.Now()
		require.NoError(t, hub.Stop(context.Background()))
		require.LessOrEqual(t, time.Since(began), defaultProbeTimeout+terminateWriteTimeout)
		require.Equal(t, []string{lineDisconnect, lineStop}, w.rest())
	})
}

// While Stop waits for the server, what it has announced the end of takes nobody in.
func TestNothingNewWhileStopping(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		watch(t, hub, "a")
		_, c := watch(t, hub)
		startHub(t, hub)
		server.Freeze(true)
		stopped := background(func() error { return hub.Stop(context.Background()) })
		synctest.Wait()
		require.Empty(t, stopped)
		require.Equal(t, StateStopping, hub.State())
		require.ErrorIs(t, c.Subscribe(within(t), "a"), ErrStopped)
		_, err := hub.Consumer(context.Background(), newWitness().handle, nil)
		require.ErrorIs(t, err, ErrStopped)
		server.Freeze(false)
		require.NoError(t, outcome(t, stopped))
	})
}

// What was committed before Stop is on its way: the server sends it before it answers.
func TestStopWaitsForWhatTheServerHasToSay(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Freeze(true)
		for i := range 100 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		stopped := background(func() error { return hub.Stop(context.Background()) })
		time.Sleep(time.Second)
		server.Freeze(false)
		require.NoError(t, outcome(t, stopped))
		w.requireNumbers(t, "a", 100)
		require.Equal(t, lineStop, w.lines()[102])
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

// After a day of every kind of trouble the stream has announced each gap, and the hub listens to what is wanted.
func TestADayOfOutages(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		heal := func() {
			server.RefuseDials(nil)
			server.HangDials(false)
			server.Freeze(false)
			server.FailStartup(nil)
			server.RefuseQuery(nil)
			server.SetStandby(false)
		}
		troubles := []func(){
			func() { server.RefuseDials(errRefusedByTest); server.Kill() },
			func() { server.HangDials(true); server.Kill() },
			func() { server.Freeze(true) },
			func() {
				server.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "starting up"})
				server.Terminate()
			},
			func() { server.SetStandby(true); server.Terminate() },
			server.Kill,
			server.Terminate,
			func() {
				server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
					if strings.Contains(sql, "LISTEN") {
						return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "53200", Message: "out of memory"}
					}
					return nil
				})
				server.Kill()
			},
		}
		topics := []string{"a"}
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
			time.Sleep(rand.N(10 * time.Minute))
			troubles[rand.IntN(len(troubles))]()
			topic := fmt.Sprintf("b%03d", len(topics))
			subscribed := background(func() error { return c.Subscribe(context.Background(), topic) })
			time.Sleep(rand.N(5 * time.Minute))
			heal()
			require.NoError(t, outcome(t, subscribed))
			topics = append(topics, topic)
		}
		time.Sleep(time.Hour)
		require.Equal(t, StateListening, hub.State())
		require.Equal(t, topics, server.Listening())
		require.Equal(t, topics, c.Topics())
		server.Notify(topics[len(topics)-1], "e")
		w.await(t, topics[len(topics)-1]+" e")

		losses, returns := 0, 0
		for _, l := range w.lines() {
			switch l {
			case lineDisconnect:
				losses++
			case lineReconnect:
				returns++
			}
			require.Contains(t, []int{0, 1}, losses-returns)
		}
		require.Equal(t, losses, returns)
		require.Greater(t, losses, 10)
	})
}

// memorySource is a source that has nothing to do with PostgreSQL: what the seam asks for is all that it knows.
type memorySource struct {
	mu       sync.Mutex
	sessions []*memorySession
	refuse   map[string]error
}

func (m *memorySource) Open(ctx context.Context) (source.Session, error) {
	s := &memorySession{source: m, wake: make(chan struct{}, 1), feed: make(chan []source.Message), lost: make(chan error, 1), topics: make(map[string]bool), began: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions = append(m.sessions, s)
	return s, ctx.Err()
}

func (m *memorySource) session() *memorySession {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[len(m.sessions)-1]
}

type memorySession struct {
	source *memorySource
	wake   chan struct{}
	feed   chan []source.Message
	lost   chan error
	topics map[string]bool // owned by Run
	began  time.Time
}

func (s *memorySession) Run(ctx context.Context, sink source.Sink) error {
	sink.Attach(s.wake)
	for {
		changes, unannounced := sink.Changes()
		for _, change := range changes { // each by itself
			refusal := s.source.refuse[change.Topic]
			if refusal == nil {
				s.topics[change.Topic] = change.Listen
			}
			if err := sink.Acknowledge([]source.Change{change}, refusal); err != nil {
				return err
			}
		}
		if unannounced {
			if err := sink.Acknowledge(nil, nil); err != nil {
				return err
			}
		}
		select {
		case <-s.wake:
		case messages := <-s.feed:
			var wanted []source.Message
			for _, m := range messages {
				if s.topics[string(m.Topic)] {
					wanted = append(wanted, m)
				}
			}
			sink.Burst(wanted, false)
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ErrStopped
		}
	}
}

func (s *memorySession) Barrier(context.Context) {}
func (s *memorySession) LastAlive() time.Time    { return s.began }
func (s *memorySession) Peer() source.Peer {
	return source.Peer{Server: "memory", PID: 7, Version: "1"}
}

func (s *memorySession) send(words ...string) {
	var burst []source.Message
	for _, w := range words {
		burst = append(burst, codecNotification("a", w))
	}
	s.feed <- burst
}

// A hub on another source than a listener connection behaves as on one.
func TestAnotherSource(t *testing.T) {
	m := &memorySource{refuse: map[string]error{"bad": errors.New("not this one")}}
	hub := unitHub(t, Config{ReconnectMin: time.Millisecond, ReconnectMax: time.Millisecond})
	hub.supervisor.source = m
	w, c := watch(t, hub, "a")
	startHub(t, hub)
	w.expect(t, lineConnect, lineSubscribe("a"))
	require.Equal(t, "memory", hub.Stats().Server)
	m.session().send("e1", "e2")
	w.expect(t, "a e1", "a e2")
	require.NoError(t, c.Subscribe(within(t), "b"))
	w.expect(t, lineSubscribe("b"))
	var refusal *ListenError
	require.ErrorAs(t, c.Subscribe(within(t), "bad"), &refusal)
	require.NoError(t, c.Unsubscribe(within(t), "b"))
	require.Equal(t, []string{"a"}, c.Topics())

	m.session().lost <- io.ErrUnexpectedEOF
	lost := w.take(t)
	require.Equal(t, lineDisconnect, lineOf(lost))
	require.ErrorIs(t, lost.Advisory.Err, io.ErrUnexpectedEOF)
	w.expect(t, lineReconnect)
	m.session().send("e3")
	w.expect(t, "a e3")
	require.NoError(t, hub.Stop(within(t)))
	w.expect(t, lineStop)
}

const hurry = 20 * time.Millisecond // between two attempts to connect, at first

// requireAll requires that everything on these topics that is committed from now on arrives.
func requireAll(t *testing.T, dsn string, w *witness, topics []string) {
	t.Helper()
	other := pgtest.Conn(t, dsn)
	for _, topic := range topics {
		_, err := other.Exec(within(t), `SELECT pg_notify($1, 'e')`, topic)
		require.NoError(t, err)
	}
	for _, topic := range topics {
		w.expect(t, topic+" e")
	}
}

// settle waits until events arrive. A server that lost one process to a crash accepts connections for another moment, and
// then ends them all.
func settle(t *testing.T, dsn string, w *witness, topic string) {
	t.Helper()
	other := pgtest.Conn(t, dsn)
	for {
		_, err := other.Exec(within(t), `SELECT pg_notify($1, 'e0')`, topic)
		require.NoError(t, err)
		ev := w.take(t)
		if lineOf(ev) == topic+" e0" {
			return
		}
		require.Equal(t, lineDisconnect, lineOf(ev))
		w.expect(t, lineReconnect)
	}
}

// recoveries is how often a server has come to accept connections.
func recoveries(t *testing.T, server *pgtest.Server) int {
	t.Helper()
	log, err := os.ReadFile(server.LogFile())
	require.NoError(t, err)
	return bytes.Count(log, []byte("ready to accept connections"))
}

func numbered(n int) (topics []string) {
	for i := range n {
		topics = append(topics, fmt.Sprintf("t%03d", i))
	}
	return topics
}

// However the connection is lost, the stream says disconnect and reconnect, and what is committed after reconnect arrives
// on every topic.
func TestTheHubComesBack(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	topics := numbered(50)
	for name, lose := range map[string]func(t *testing.T, pid int){
		"terminated": func(t *testing.T, pid int) {
			_, err := pgtest.Conn(t, server.DSN()).Exec(within(t), `SELECT pg_terminate_backend($1)`, pid)
			require.NoError(t, err)
		},
		"fast restart": func(t *testing.T, _ int) { require.NoError(t, server.Restart(t.Context(), pgtest.Fast)) },
		"immediate restart": func(t *testing.T, _ int) {
			require.NoError(t, server.Restart(t.Context(), pgtest.Immediate))
		},
		"crash of the server": func(t *testing.T, _ int) {
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(t.Context()))
		},
		"crash of the server process": func(t *testing.T, pid int) {
			before := recoveries(t, server)
			require.NoError(t, server.Signal(pid, syscall.SIGKILL))
			require.Eventually(t, func() bool { return recoveries(t, server) > before }, patience, time.Millisecond)
		},
		"stopped server process": func(t *testing.T, pid int) {
			require.NoError(t, server.Signal(pid, pgtest.Freeze))
			t.Cleanup(func() { assert.NoError(t, server.Signal(pid, pgtest.Thaw)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Pool: pgtest.Pool(t, server.DSN()), ReconnectMin: hurry}
			if name == "stopped server process" { // nothing but the probe tells
				cfg.ProbeInterval, cfg.ProbeTimeout = 500*time.Millisecond, 2*time.Second
			}
			hub := realHub(t, cfg)
			w, c := watch(t, hub, topics...)
			startHub(t, hub)
			w.expect(t, lineConnect)
			for _, topic := range topics {
				w.expect(t, lineSubscribe(topic))
			}
			requireAll(t, server.DSN(), w, topics)

			lose(t, int(hub.Stats().PID))
			lost := w.take(t)
			require.Equal(t, lineDisconnect, lineOf(lost))
			require.Error(t, lost.Advisory.Err)
			back := w.take(t)
			require.Equal(t, lineReconnect, lineOf(back))
			require.False(t, back.Advisory.Gap.Until.Before(back.Advisory.Gap.Since))
			settle(t, server.DSN(), w, topics[0])
			requireAll(t, server.DSN(), w, topics)
			require.NoError(t, c.Subscribe(within(t), "new"))
			w.expect(t, lineSubscribe("new"))
			require.NoError(t, hub.Stop(within(t)))
			require.NotZero(t, hub.Stats().Reconnects)
			w.expect(t, lineStop)
		})
	}
}

func TestCallsDuringAnOutage(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	pool := pgtest.Pool(t, server.DSN())
	errs := newErrorLog()
	hub := realHub(t, Config{Pool: pool, ReconnectMin: hurry, ReconnectMax: 10 * hurry, OnError: errs.onError})
	w, c := watch(t, hub, "a", "b")
	startHub(t, hub)
	w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
	require.NoError(t, server.Stop(pgtest.Fast))
	w.expect(t, lineDisconnect)

	require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), ErrNotConnected)
	require.ErrorIs(t, hub.NotifyPayload(within(t), "a", "e"), ErrNotConnected)
	require.NoError(t, c.Unsubscribe(within(t), "b"))
	ctx, cancel := context.WithTimeout(context.Background(), 10*hurry)
	defer cancel()
	require.ErrorIs(t, c.Subscribe(ctx, "given up"), context.DeadlineExceeded)
	require.Equal(t, []string{"a"}, c.Topics())
	subscribed := background(func() error { return c.Subscribe(context.Background(), "c") })
	newcomer := newWitness()
	made := background(func() error {
		_, err := hub.Consumer(context.Background(), newcomer.handle, &ConsumerConfig{Topics: []string{"d"}})
		return err
	})
	errs.await(t, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) })
	require.Contains(t, []State{StateWaiting, StateConnecting}, hub.State())
	require.Zero(t, hub.Stats().PID)
	require.Empty(t, subscribed)
	require.Empty(t, made)

	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, outcome(t, subscribed))
	require.NoError(t, outcome(t, made))
	w.expect(t, lineReconnect, lineSubscribe("c"))
	newcomer.expect(t, lineSubscribe("d"))
	requireAll(t, server.DSN(), w, []string{"a", "c"})
	requireAll(t, server.DSN(), newcomer, []string{"d"})
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	w.expect(t, "a e")
}

func TestRunWaitsForARealServer(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	require.NoError(t, server.Stop(pgtest.Fast))
	errs := newErrorLog()
	hub := realHub(t, Config{Pool: pgtest.Pool(t, server.DSN()), ReconnectMin: hurry, ReconnectMax: 10 * hurry, OnError: errs.onError})
	w, _ := watch(t, hub, "a")
	runInBackground(t, hub)
	errs.await(t, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) })
	require.NoError(t, server.Start(t.Context()))
	w.expect(t, lineConnect, lineSubscribe("a"))
	requireAll(t, server.DSN(), w, []string{"a"})
}

// The hub owns its connection: what becomes of the pool concerns Notify alone.
func TestAClosedPool(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	hub := realHub(t, Config{Pool: pool, ReconnectMin: hurry})
	w, c := watch(t, hub, "a")
	startHub(t, hub)
	pool.Close()
	require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), ErrNotConnected)
	require.NoError(t, c.Subscribe(within(t), "b"))
	w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
	requireAll(t, dsn, w, []string{"a", "b"})
	_, err := pgtest.Conn(t, dsn).Exec(within(t), `SELECT pg_terminate_backend($1)`, hub.Stats().PID)
	require.NoError(t, err)
	w.expect(t, lineDisconnect, lineReconnect)
	requireAll(t, dsn, w, []string{"a", "b"})
}

// A failover may lead to a database that has no word for some topic. It is reported by name, keeps no other from being
// listened to, and is not given up.
func TestATopicThatTheDatabaseCannotNameAnyMore(t *testing.T) {
	utf8, latin1 := pgtest.Database(t), pgtest.Latin1Database(t)
	var target atomic.Value
	target.Store(utf8)
	pool := poolOf(t, utf8, func(cfg *pgxpool.Config) {
		cfg.BeforeConnect = func(_ context.Context, cfg *pgx.ConnConfig) error {
			cfg.Database = parseDSN(t, target.Load().(string)).Database
			return nil
		}
	})
	errs := newErrorLog()
	hub := realHub(t, Config{Pool: pool, ReconnectMin: hurry, ReconnectMax: 10 * hurry, OnError: errs.onError})
	w, _ := watch(t, hub, "a", "日本")
	startHub(t, hub)
	w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("日本"))
	failover := func(to string) {
		t.Helper()
		awaitState(t, hub, StateListening)
		target.Store(to)
		_, err := pgtest.Conn(t, utf8).Exec(within(t), `SELECT pg_terminate_backend($1)`, hub.Stats().PID)
		require.NoError(t, err)
		w.expect(t, lineDisconnect, lineReconnect)
	}

	failover(latin1)
	err := errs.await(t, func(err error) bool { return errors.As(err, new(*ListenError)) })
	requireRefused(t, err, "日本")
	requireAll(t, latin1, w, []string{"a"})
	failover(utf8)
	requireAll(t, utf8, w, []string{"a", "日本"})
}

func parseDSN(t *testing.T, dsn string) *pgconn.Config {
	t.Helper()
	cfg, err := pgconn.ParseConfig(dsn)
	require.NoError(t, err)
	return cfg
}
