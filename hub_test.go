package pghub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestNewNamesWhatIsWrong(t *testing.T) {
	listen := fakepg.New().Config()
	for problem, cfg := range map[string]Config{
		"needs a Pool or a ListenConfig": {},
		"is not UTF-8 without NUL":       {ListenConfig: listen, Name: "a\x00b"},
		"are no range":                   {ListenConfig: listen, ReconnectMin: 2, ReconnectMax: 1},
		"must not be negative":           {ListenConfig: listen, ProbeTimeout: -1},
	} {
		_, err := New(cfg)
		require.ErrorContains(t, err, problem)
	}
	hub, err := New(Config{ListenConfig: listen, ReconnectMin: math.MaxInt64})
	require.NoError(t, err)
	_, err = hub.Consumer(context.Background(), nil, nil)
	require.ErrorContains(t, err, "handler is nil")
	_, err = hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Overflow: 3})
	require.ErrorContains(t, err, "Overflow 3")
	_, err = hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Topics: []string{"a", ""}})
	require.ErrorIs(t, err, ErrTopic)
	require.NoError(t, hub.Stop(t.Context()))
}

func TestStartOnce(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		var started, refused atomic.Int64
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() {
				switch err := hub.Start(context.Background()); {
				case err == nil:
					started.Add(1)
				case errors.Is(err, ErrStarted):
					refused.Add(1)
				}
			})
		}
		calls.Wait()
		require.EqualValues(t, 1, started.Load())
		require.EqualValues(t, 9, refused.Load())
	})
}

// The context of Start bounds Start, and nothing else.
func TestTheContextOfStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, hub.Start(ctx))
		cancel()
		time.Sleep(time.Hour)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
	})
	for name, trouble := range map[string]func(server *fakepg.Server){
		"no connection":  func(server *fakepg.Server) { server.HangDials(true) },
		"no welcome":     func(server *fakepg.Server) { server.Freeze(true) },
		"no answer":      func(server *fakepg.Server) { server.Hold(mentions("LISTEN")) },
		"no information": func(server *fakepg.Server) { server.Hold(mentions("pg_is_in_recovery")) },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				trouble(server)
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				began := time.Now()
				err := hub.Start(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, ErrStopped)
				if name != "no answer" { // there it had connected
					require.ErrorIs(t, err, ErrNotConnected)
				}
				require.Less(t, time.Since(began), 5*time.Second)
				requireFailedStart(t, hub, w, err)
			})
		})
	}
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, hub.Start(ctx), context.Canceled)
	})
}

// requireFailedStart requires that a hub has stopped, and that its consumer was told why.
func requireFailedStart(t *testing.T, hub *Hub, w *witness, err error) {
	t.Helper()
	require.Equal(t, StateStopped, hub.State())
	require.Equal(t, []string{lineStop}, w.lines())
	cause := w.take(t).Advisory.Err
	require.Error(t, cause)
	require.ErrorContains(t, err, cause.Error())
	require.ErrorIs(t, hub.Start(context.Background()), ErrStopped)
}

// parsed is the configuration of a listener connection to what a DSN names, changed.
func parsed(t *testing.T, dsn string, change func(*url.URL)) *pgx.ConnConfig {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	change(u)
	cfg, err := pgx.ParseConfig(u.String())
	require.NoError(t, err)
	return cfg
}

func TestStartSaysWhyItFailed(t *testing.T) {
	const secret = "s3cr3t"
	server := pgtest.Private(t, pgtest.Options{HBA: "host replication all all trust\nhost all all all scram-sha-256"})
	standby, err := server.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	code := func(want string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
			require.Equal(t, want, pgErr.Code)
			require.ErrorIs(t, err, ErrNotConnected)
		}
	}
	for name, test := range map[string]struct {
		cfg  *pgx.ConnConfig
		want func(*testing.T, error)
	}{
		"nobody there": {
			parsed(t, server.DSN(), func(u *url.URL) { u.Host, u.User = "127.0.0.1:1", url.UserPassword("postgres", secret) }),
			func(t *testing.T, err error) {
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				require.ErrorIs(t, err, ErrNotConnected)
			},
		},
		"wrong password": {
			parsed(t, server.DSN(), func(u *url.URL) { u.User = url.UserPassword("postgres", secret) }),
			code("28P01"),
		},
		"no such role": {
			parsed(t, server.DSN(), func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }),
			code("28P01"),
		},
		"no such database": {
			parsed(t, server.DSN(), func(u *url.URL) { u.Path = "/nowhere" }),
			code("3D000"),
		},
		"a standby": {
			parsed(t, standby.DSN(), func(*url.URL) {}),
			func(t *testing.T, err error) {
				require.ErrorIs(t, err, ErrStandby)
				require.ErrorContains(t, err, "target_session_attrs=read-write")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			errs := newErrorLog()
			logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			hub := realHub(t, Config{ListenConfig: test.cfg, Logger: logger, OnError: errs.onError})
			w, _ := watch(t, hub, "a")
			err := hub.Start(within(t))
			test.want(t, err)
			require.True(t, strings.HasPrefix(err.Error(), "pghub: start: "), err)
			requireFailedStart(t, hub, w, err)
			require.NotContains(t, fmt.Sprintf("%v %+v %v %v %v", err, err, hub.Stats(), errs.all(), log.String()), secret)
			require.Contains(t, log.String(), "stopped")
		})
	}

	// All hosts together find the primary.
	cfg := parsed(t, server.DSN(), func(u *url.URL) {
		replica, err := url.Parse(standby.DSN())
		require.NoError(t, err)
		u.Host = replica.Host + "," + u.Host
		q := u.Query()
		q.Set("target_session_attrs", "read-write")
		u.RawQuery = q.Encode()
	})
	startHub(t, realHub(t, Config{ListenConfig: cfg}))
}

func TestAPoolerThatDeliversNothing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.SetBackendPID(func(pid uint32) uint32 { return pid + 7 })
		server.SetDeaf(true)
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		began := time.Now()
		err := hub.Start(within(t))
		require.ErrorIs(t, err, ErrPooler)
		require.ErrorContains(t, err, "ListenConfig")
		require.Equal(t, defaultProbeTimeout, time.Since(began))
		requireFailedStart(t, hub, w, err)
		synctest.Wait()
		require.Zero(t, server.Sessions())
	})
}

func TestAPoolerThatDelivers(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.SetBackendPID(func(pid uint32) uint32 { return pid + 7 })
		hub := fakeHub(t, server, Config{ProbeTimeout: time.Minute}) // longer than a connection may take
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		synctest.Wait()
		require.Equal(t, []string{"a"}, server.Listening(), "nothing is left of the check")
		require.Equal(t, 1, server.Sessions())

		server.SetDeaf(true) // somebody has changed its mode
		server.Kill()
		w.expect(t, lineDisconnect)
		time.Sleep(time.Hour)
		require.Empty(t, w.rest())
		require.ErrorIs(t, hub.Stats().LastError, ErrPooler)
		server.SetDeaf(false)
		time.Sleep(hub.cfg.ProbeTimeout + hub.cfg.ReconnectMax) // a check that began before, and the wait behind it
		w.expect(t, lineReconnect)
	})
}

func TestStartFailsWithARefusedTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.RefuseQuery(refuseListen("bad"))
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a", "bad", "c")
		err := hub.Start(within(t))
		var refused *ListenError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "bad", refused.Topic)
		requireFailedStart(t, hub, w, err)
	})
}

// lateContext has ended, and is asked whether it has only when the hub listens already.
type lateContext struct {
	context.Context
	listens <-chan struct{}
}

func (c lateContext) Done() <-chan struct{} {
	<-c.listens
	return c.Context.Done()
}

// The end of its context fails a Start, though the server has just answered.
func TestStartAsItsContextEnds(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for range 30 { // it is a matter of chance which of the two is seen first
		hub, err := New(Config{PollOnly: true})
		require.NoError(t, err)
		require.ErrorIs(t, hub.Start(lateContext{ended, hub.supervisor.started}), context.Canceled)
		require.Equal(t, StateStopped, hub.State())
	}
}

// Start that fails waits for handlers to have their last event, but not for ever.
func TestAFailedStartDoesNotWaitForAHandlerThatIsStuck(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.RefuseQuery(refuseListen("bad"))
		hub := fakeHub(t, server, Config{})
		release := make(chan struct{})
		_, err := hub.Consumer(context.Background(), func(context.Context, *Event) { <-release }, &ConsumerConfig{Topics: []string{"bad"}})
		require.NoError(t, err)
		began := time.Now()
		var refused *ListenError
		require.ErrorAs(t, hub.Start(within(t)), &refused)
		require.Equal(t, hub.cfg.StopTimeout, time.Since(began))
		require.Equal(t, StateStopping, hub.State())
		close(release)
		awaitClosed(t, hub.Done(), "the hub")
	})
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A hub leaves no goroutine behind.
func TestHubsComeAndGo(t *testing.T) {
	pgtest.CheckLeaks(t)
	dsn := pgtest.Database(t)
	for range 20 {
		hub, err := New(Config{Pool: pgtest.Pool(t, dsn)})
		require.NoError(t, err)
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		require.NoError(t, hub.Notify(within(t), "a", nil, nil))
		require.NoError(t, hub.Stop(within(t)))
		w.expect(t, lineConnect, lineSubscribe("a"), "a e", lineStop)
	}
}

func TestStatesHaveNames(t *testing.T) {
	require.Equal(t, "idle connecting listening waiting stopping stopped State(7)",
		strings.Trim(fmt.Sprint([]State{StateIdle, StateConnecting, StateListening, StateWaiting, StateStopping, StateStopped, 7}), "[]"))
}
