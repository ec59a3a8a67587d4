package pghub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// Run is patient, and then nobody but OnError and the log hears of the trouble.
func TestNoPasswordIsShownByRun(t *testing.T) {
	const secret = "s3cr3t"
	var log bytes.Buffer
	errs := newErrorLog()
	cfg := parsed(t, "postgres://postgres:"+secret+"@127.0.0.1:1/postgres", func(*url.URL) {})
	hub := realHub(t, Config{ListenConfig: cfg, Logger: slog.New(slog.NewJSONHandler(&log, nil)), OnError: errs.onError})
	runInBackground(t, hub)
	errs.await(t, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) })
	require.NoError(t, hub.Stop(within(t)))
	require.NotContains(t, fmt.Sprint(errs.all(), hub.Stats(), log.String()), secret)
	require.Contains(t, log.String(), "refused")
}

func TestRunWaitsForAServer(t *testing.T) {
	away := func(code string) func(*fakepg.Server) {
		return func(s *fakepg.Server) { s.FailStartup(&pgproto3.ErrorResponse{Code: code, Message: "later"}) }
	}
	for name, trouble := range map[string]func(*fakepg.Server){
		"not there":   func(s *fakepg.Server) { s.RefuseDials(errRefusedByTest) },
		"hung":        func(s *fakepg.Server) { s.HangDials(true) },
		"starting up": away("57P03"),
		"full":        away("53300"),
		"a standby":   func(s *fakepg.Server) { s.SetStandby(true) },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				trouble(server)
				hub := fakeHub(t, server, Config{})
				w, c := watch(t, hub, "a")
				runInBackground(t, hub)
				time.Sleep(time.Hour)
				require.Contains(t, []State{StateConnecting, StateWaiting}, hub.State())
				subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
				synctest.Wait()
				require.Empty(t, subscribed, "it waits for the server, although there never was one")

				server.RefuseDials(nil)
				server.HangDials(false)
				server.FailStartup(nil)
				server.SetStandby(false)
				w.expect(t, lineConnect, lineSubscribe("a"), lineSubscribe("b"))
				require.NoError(t, outcome(t, subscribed))
			})
		})
	}
}

func TestRunReturnsWhatWaitingDoesNotMend(t *testing.T) {
	refused := func(code string) func(*fakepg.Server) {
		return func(s *fakepg.Server) { s.FailStartup(&pgproto3.ErrorResponse{Code: code, Message: "never"}) }
	}
	for name, trouble := range map[string]func(*fakepg.Server){
		"wrong password":  refused("28P01"),
		"not authorized":  refused("28000"),
		"no database":     refused("3D000"),
		"no privilege":    refused("42501"),
		"a deaf pooler":   func(s *fakepg.Server) { s.SetBackendPID(func(uint32) uint32 { return 7 }); s.SetDeaf(true) },
		"a refused topic": func(s *fakepg.Server) { s.RefuseQuery(refuseListen("a")) },
		"all this at last": func(s *fakepg.Server) {
			s.RefuseDials(errRefusedByTest)
			time.AfterFunc(time.Hour, func() { s.RefuseDials(nil) })
			refused("28P01")(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				trouble(server)
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				err := hub.Run(context.Background())
				require.Error(t, err)
				require.NotErrorIs(t, err, ErrStopped)
				requireFailedStart(t, hub, w, err)
			})
		})
	}
}

// Once it has run, it comes back whatever the server says.
func TestNothingIsHopelessAfterTheFirstConnection(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		runInBackground(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.FailStartup(&pgproto3.ErrorResponse{Code: "28P01", Message: "password authentication failed"})
		server.Kill()
		w.expect(t, lineDisconnect)
		time.Sleep(time.Hour)
		server.FailStartup(nil)
		w.expect(t, lineReconnect)
	})
}

func TestRunStopsGracefully(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ran := background(func() error { return hub.Run(ctx) })
		<-g.entered
		server.Notify("a", "e")
		synctest.Wait()
		cancel()
		time.Sleep(defaultStopTimeout - time.Second)
		require.Empty(t, ran)
		close(g.open)
		require.NoError(t, outcome(t, ran))
		g.expect(t, lineConnect, lineSubscribe("a"), "a e", lineStop)
	})
}

func TestRunSaysThatItsStopWasNotGraceful(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{StopTimeout: time.Second})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ran := background(func() error { return hub.Run(ctx) })
		<-g.entered
		cancel()
		require.ErrorIs(t, outcome(t, ran), context.DeadlineExceeded)
		close(g.open)
	})
}

func TestStopEndsRun(t *testing.T) {
	for name, trouble := range map[string]func(*fakepg.Server){
		"listening":                   func(*fakepg.Server) {},
		"before the first connection": func(server *fakepg.Server) { server.RefuseDials(errRefusedByTest) },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				trouble(server)
				hub := fakeHub(t, server, Config{})
				ran := background(func() error { return hub.Run(context.Background()) })
				synctest.Wait()
				require.NoError(t, hub.Stop(within(t)))
				require.NoError(t, outcome(t, ran))
				ended, cancel := context.WithCancel(context.Background())
				cancel()
				require.ErrorIs(t, hub.Run(ended), ErrStopped)
			})
		})
	}
}

func TestRunUntilTheContextEnds(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.RefuseDials(errRefusedByTest)
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		require.NoError(t, hub.Run(ctx))
		w.expect(t, lineStop)
	})
}
