package pghub

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
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

// A hub is brought into each state of its life, where every method has a defined answer: to a caller from outside, to
// several at once, and to one inside a handler.

type stage int

const (
	idle stage = iota
	connecting
	listening
	outage
	stopping
	stopped
	stages
)

func (s stage) state() State {
	return [stages]State{StateIdle, StateConnecting, StateListening, StateWaiting, StateStopping, StateStopped}[s]
}

// answers of a method, stage by stage.
type answers [stages]error

// stubTx is a transaction that takes everything.
type stubTx struct{}

func (stubTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, nil
}

type method struct {
	name    string
	want    answers
	call    func(ctx context.Context, hub *Hub, c *Consumer) error
	starts  bool // would leave the idle stage
	batches bool // the scripted server knows no batches: not to be called several times at once
}

var (
	always   = answers{}
	begun    = answers{nil, ErrStarted, ErrStarted, ErrStarted, ErrStopped, ErrStopped}
	publish  = answers{ErrNotStarted, ErrNotConnected, nil, ErrNotConnected, ErrStopped, ErrStopped}
	make1    = answers{nil, nil, nil, nil, ErrStopped, ErrStopped}
	listen   = answers{nil, context.DeadlineExceeded, nil, context.DeadlineExceeded, ErrStopped, ErrStopped}
	isClosed = answers{ErrClosed, ErrClosed, ErrClosed, ErrClosed, ErrStopped, ErrStopped}
)

var methods = []method{
	{name: "Start", want: begun, starts: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error { return hub.Start(ctx) }},
	{name: "Run", want: begun, starts: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error { return hub.Run(ctx) }},
	{name: "Notify", want: publish, batches: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.Notify(ctx, "a", nil, nil)
	}},
	{name: "NotifyPayload", want: publish, batches: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.NotifyPayload(ctx, "a", "e")
	}},
	{name: "NotifyTx", want: always, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.NotifyTx(ctx, stubTx{}, "a", nil, nil)
	}},
	{name: "Consumer", want: make1, call: func(_ context.Context, hub *Hub, _ *Consumer) error {
		_, err := hub.Consumer(context.Background(), newWitness().handle, nil)
		return err
	}},
	{name: "Events", want: listen, call: func(ctx context.Context, hub *Hub, _ *Consumer) (err error) {
		for ev := range hub.Events(ctx, "b") {
			err = ev.Advisory.Err
		}
		return err
	}},
	{name: "Subscribe", want: listen, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Subscribe(ctx, "b") }},
	{name: "Unsubscribe", want: always, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Unsubscribe(ctx, "a") }},
	{name: "Drain", want: always, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Drain(ctx) }},
	{name: "Close", want: always, call: func(_ context.Context, _ *Hub, c *Consumer) error { return c.Close() }},
	{name: "Subscribe of a closed consumer", want: isClosed, call: func(ctx context.Context, _ *Hub, c *Consumer) error {
		return errors.Join(c.Close(), c.Subscribe(ctx, "b"))
	}},
	{name: "Stats", want: always, call: func(_ context.Context, hub *Hub, c *Consumer) error {
		hub.Stats()
		c.Stats()
		c.Topics()
		return nil
	}},
}

// inside runs calls on a goroutine that is in a handler.
type inside struct{ calls chan func() }

func (in inside) handle(_ context.Context, ev *Event) {
	if ev.Advisory.Final {
		for f := range in.calls {
			f()
		}
	}
}

func TestEveryMethodHasAnAnswerInEveryState(t *testing.T) {
	ways := map[string]func(in inside, m method, check func()){
		"outside": func(_ inside, _ method, check func()) { check() },
		"inside": func(in inside, _ method, check func()) {
			done := make(chan struct{})
			in.calls <- func() { check(); close(done) }
			<-done
		},
		"several at a time": func(_ inside, m method, check func()) {
			var calls sync.WaitGroup
			for range 5 {
				if calls.Go(check); m.batches {
					break
				}
			}
			calls.Wait()
		},
	}
	for at := range stages {
		for way, call := range ways {
			if at == stopped && way == "inside" {
				continue // no handler runs any more
			}
			t.Run(fmt.Sprintf("%s, %s", at.state(), way), func(t *testing.T) {
				onFake(t, func(t *testing.T, server *fakepg.Server) {
					poolCfg, err := pgxpool.ParseConfig(server.Config().ConnString())
					require.NoError(t, err)
					poolCfg.ConnConfig = server.Config()
					poolCfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
					pool, err := pgxpool.NewWithConfig(context.Background(), poolCfg)
					require.NoError(t, err)
					t.Cleanup(pool.Close)
					hub := hubOf(t, Config{Pool: pool, ReconnectMin: time.Hour, ReconnectMax: time.Hour})

					in := inside{make(chan func())}
					handler, err := hub.Consumer(context.Background(), in.handle, nil)
					require.NoError(t, err)
					leaveHandler := sync.OnceFunc(func() { close(in.calls) })
					t.Cleanup(leaveHandler)
					var targets []*Consumer
					for range methods {
						_, c := watch(t, hub, "a")
						targets = append(targets, c)
					}
					ended := bringTo(t, at, server, hub, handler, leaveHandler)
					require.Equal(t, at.state(), hub.State())

					for i, m := range methods {
						if m.starts && at == idle {
							continue
						}
						call(in, m, func() {
							ctx, cancel := context.WithTimeout(context.Background(), time.Second)
							defer cancel()
							err := m.call(ctx, hub, targets[i])
							if m.want[at] == nil {
								assert.NoError(t, err, m.name)
							} else {
								assert.ErrorIs(t, err, m.want[at], m.name)
							}
						})
					}
					require.Equal(t, at.state(), hub.State(), "none of this has changed the state")
					leaveHandler()
					require.NoError(t, hub.Stop(within(t)))
					require.NoError(t, outcome(t, ended))
				})
			})
		}
	}
}

// bringTo brings a hub to a stage of its life, in which handler's handler does not return before leave is called. It
// returns where the outcome of Run will be.
func bringTo(t *testing.T, at stage, server *fakepg.Server, hub *Hub, handler *Consumer, leave func()) (ended <-chan error) {
	t.Helper()
	go func() { _ = handler.Drain(context.Background()) }() // ends with the test
	if at == idle {
		return background(func() error { return nil })
	}
	server.HangDials(at == connecting)
	ended = background(func() error { return hub.Run(context.Background()) })
	synctest.Wait()
	switch at {
	case outage:
		server.RefuseDials(errRefusedByTest)
		server.Kill()
	case stopping:
		go func() { _ = hub.Stop(context.Background()) }() // ends with the test
	case stopped:
		leave()
		require.NoError(t, hub.Stop(within(t)))
	}
	synctest.Wait()
	return ended
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
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e")
		require.Equal(t, []string{"a"}, server.Listening(), "nothing is left of the check")
		require.Equal(t, 1, server.Sessions())

		server.SetDeaf(true) // somebody has changed its mode
		server.Kill()
		w.expect(t, lineDisconnect)
		time.Sleep(time.Hour)
		require.Empty(t, w.rest())
		require.ErrorIs(t, hub.Stats().LastError, ErrPooler)
		server.SetDeaf(false)
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

func TestStopWhileStarting(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		server.HangDials(true)
		hub := fakeHub(t, server, Config{})
		started := background(func() error { return hub.Start(context.Background()) })
		synctest.Wait()
		require.NoError(t, hub.Stop(within(t)))
		require.ErrorIs(t, outcome(t, started), ErrStopped)
	})
}

func TestStopBeforeStart(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{lineStop}, w.lines())
		require.ErrorIs(t, hub.Start(context.Background()), ErrStopped)
		require.Empty(t, server.Dials())
	})
}

func TestStopMayBeCalledAgainAndAtOnce(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, nil)
		require.NoError(t, err)
		startHub(t, hub)
		<-g.entered
		var calls []<-chan error
		for range 10 {
			calls = append(calls, background(func() error { return hub.Stop(context.Background()) }))
		}
		synctest.Wait()
		for _, call := range calls {
			require.Empty(t, call, "each of them waits")
		}
		close(g.open)
		for _, call := range calls {
			require.NoError(t, outcome(t, call))
		}
		require.Equal(t, []string{lineConnect, lineStop}, g.lines())
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, hub.Stop(ended), "there is nothing to wait for any more")
	})
}

// stopper is a handler that calls Stop with its own context at an event of topic "stop".
type stopper struct {
	*witness
	hub      *Hub
	returned chan error
}

func newStopper(hub *Hub) *stopper { return &stopper{newWitness(), hub, make(chan error, 1)} }

func (s *stopper) handle(ctx context.Context, ev *Event) {
	if ev.Topic == "stop" {
		s.returned <- s.hub.Stop(ctx)
	}
	s.witness.handle(ctx, ev)
}

func TestStopFromWithinAHandler(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		s := newStopper(hub)
		_, err := hub.Consumer(context.Background(), s.handle, &ConsumerConfig{Topics: []string{"stop"}})
		require.NoError(t, err)
		startHub(t, hub)
		// In one piece: else Stop might come before the second event, in which it is called again.
		server.Send(&pgproto3.NotificationResponse{PID: 7, Channel: "stop", Payload: "e1"}, &pgproto3.NotificationResponse{PID: 7, Channel: "stop", Payload: "e2"})
		require.NoError(t, outcome(t, s.returned))
		require.NoError(t, outcome(t, s.returned))
		require.NoError(t, hub.Stop(within(t)))
		s.expect(t, lineConnect, lineSubscribe("stop"), "stop e1", "stop e2", lineStop)
	})
}

func TestStopFromWithinTwoHandlers(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		first, second := newStopper(hub), newStopper(hub)
		third := newGate()
		for _, handler := range []Handler{first.handle, second.handle, third.handle} {
			_, err := hub.Consumer(context.Background(), handler, &ConsumerConfig{Topics: []string{"stop"}})
			require.NoError(t, err)
		}
		startHub(t, hub)
		server.Notify("stop", "e")
		synctest.Wait()
		require.Empty(t, first.returned, "the third handler is waited for")
		require.Empty(t, second.returned)
		close(third.open)
		require.NoError(t, outcome(t, first.returned))
		require.NoError(t, outcome(t, second.returned))
		require.NoError(t, hub.Stop(within(t)))
		for _, w := range []*witness{first.witness, second.witness, third.witness} {
			w.expect(t, lineConnect, lineSubscribe("stop"), "stop e", lineStop)
		}
	})
}

// A context that outlives its handler excuses nobody.
func TestStopWithTheContextOfAHandlerThatIsGone(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		kept := make(chan context.Context, 10)
		c, err := hub.Consumer(context.Background(), func(ctx context.Context, _ *Event) { kept <- ctx }, nil)
		require.NoError(t, err)
		g := newGate()
		_, err = hub.Consumer(context.Background(), g.handle, nil)
		require.NoError(t, err)
		startHub(t, hub)
		ctx := context.WithoutCancel(<-kept)
		require.NoError(t, c.Drain(within(t)))
		returned := background(func() error { return hub.Stop(ctx) })
		synctest.Wait()
		require.Empty(t, returned, "the other handler is waited for")
		close(g.open)
		require.NoError(t, outcome(t, returned))
	})
}

// The reporter of trouble may take it as a reason to stop, and wait for that.
func TestStopFromWithinOnError(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		returned := make(chan error, 1)
		var hub *Hub
		hub = fakeHub(t, server, Config{OnError: func(error) { returned <- hub.Stop(context.Background()) }})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "undecodable")
		require.NoError(t, outcome(t, returned))
		w.expect(t, lineConnect, lineSubscribe("a"), lineStop)
	})
}

func TestStopCutsOff(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		heeds := newWitness()
		_, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
			heeds.handle(ctx, ev)
			if ev.Topic == "a" {
				<-ctx.Done()
			}
		}, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		ignores := newGate()
		_, err = hub.Consumer(context.Background(), ignores.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		<-ignores.entered
		server.Notify("a", "e1")
		server.Notify("a", "e2")
		synctest.Wait()

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = hub.Stop(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "pghub: stop: cut off: context deadline exceeded")
		synctest.Wait()
		require.Equal(t, []string{lineConnect, lineSubscribe("a"), "a e1", lineStop}, heeds.lines())
		require.Equal(t, StateStopping, hub.State(), "a handler still runs")
		require.ErrorIs(t, hub.Stop(ctx), context.DeadlineExceeded)

		close(ignores.open)
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{lineConnect, lineStop}, ignores.lines())
		require.Equal(t, StateStopped, hub.State())
	})
}

// Handlers that are inside the hub when it stops come out of it, and see stop.
func TestStopWhileHandlersCallTheHub(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		calls := map[string]func(ctx context.Context, c *Consumer) error{
			"Subscribe": func(ctx context.Context, c *Consumer) error { return c.Subscribe(ctx, "b") },
			"Consumer": func(context.Context, *Consumer) error {
				_, err := hub.Consumer(context.Background(), newWitness().handle, &ConsumerConfig{Topics: []string{"b"}})
				return err
			},
			"Events": func(ctx context.Context, _ *Consumer) (err error) {
				for ev := range hub.Events(ctx, "b") {
					err = ev.Advisory.Err
				}
				return err
			},
			"Start": func(ctx context.Context, _ *Consumer) error {
				<-ctx.Done() // until it is cut off
				return hub.Start(ctx)
			},
		}
		returned := make(chan error, len(calls))
		var witnesses []*witness
		for _, call := range calls {
			w := newWitness()
			witnesses = append(witnesses, w)
			var c *Consumer
			c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
				w.handle(ctx, ev)
				if ev.Advisory.Action == ActionDisconnect {
					returned <- call(ctx, c)
				}
			}, nil)
			require.NoError(t, err)
		}
		startHub(t, hub)
		server.RefuseDials(errRefusedByTest)
		server.Kill()
		synctest.Wait()
		require.Empty(t, returned)
		require.ErrorIs(t, hub.Stop(soon(t)), context.DeadlineExceeded)
		for range calls {
			require.ErrorIs(t, outcome(t, returned), ErrStopped)
		}
		require.NoError(t, hub.Stop(within(t)))
		for _, w := range witnesses {
			w.expect(t, lineConnect, lineDisconnect, lineStop)
		}
	})
}

// Everybody who waits for a hub that stops gets an answer.
func TestStopAnswersThoseWhoWait(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		_, c := watch(t, hub, "a")
		startHub(t, hub)
		server.Hold(mentions(`"b"`))
		subscribed := background(func() error { return c.Subscribe(context.Background(), "b") })
		synctest.Wait()
		unsubscribed := background(func() error { return c.Unsubscribe(context.Background(), "a") })
		synctest.Wait()
		server.Freeze(true)
		require.ErrorIs(t, hub.Stop(soon(t)), context.DeadlineExceeded)
		require.ErrorIs(t, outcome(t, subscribed), ErrStopped)
		require.NoError(t, outcome(t, unsubscribed))
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

// A loop that is left with events in hand, or in its queue, leaves nothing behind that counts as waiting.
func TestStatsOfALoopThatWasLeft(t *testing.T) {
	hub := unitHub(t, Config{})
	c := unitConsumer(t, hub, ConsumerConfig{})
	c.queue.put(0, queueRun("a", 1, 2, 3), queueRun("b", 4))
	c.iterate(t.Context(), func(*Event) bool { return false })
	require.Zero(t, hub.Stats().Queued)
	require.Zero(t, c.Stats().Queued)
	require.Equal(t, uint64(1), hub.Stats().Delivered)
	awaitClosed(t, c.Done(), "the end of the consumer")
}

// What waits is the sum over all consumers.
func TestStatsSumWhatWaits(t *testing.T) {
	hub := unitHub(t, Config{})
	for range 3 {
		unitConsumer(t, hub, ConsumerConfig{}).queue.put(0, queueRun("a", 1, 2))
	}
	require.Equal(t, 6, hub.Stats().Queued)
}

// Counters never fall, while consumers come and go.
func TestStatsNeverFall(t *testing.T) {
	hub := unitHub(t, Config{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range fewer(2000) {
				c, err := hub.Consumer(t.Context(), func(context.Context, *Event) {}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				deliveryPut(c, queueRun("a", 1, 2, 3))
				if err := c.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var last Stats
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		st := hub.Stats()
		require.GreaterOrEqual(t, st.Delivered, last.Delivered)
		last = st
	}
	require.Equal(t, uint64(4*fewer(2000)*4), last.Delivered, "three events and a close each")
	require.Zero(t, last.Consumers)
}

// State and error go into JSON as text.
func TestStatsAsJSON(t *testing.T) {
	st := Stats{State: StateWaiting, Since: time.Unix(0, 0).UTC(), Received: 7, LastError: errors.New("connection refused")}
	b, err := json.Marshal(st)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, "waiting", got["State"])
	require.Equal(t, "connection refused", got["LastError"])
	require.EqualValues(t, 7, got["Received"])
	b, err = json.Marshal(Stats{})
	require.NoError(t, err)
	require.NotContains(t, string(b), "LastError")
}

func TestConsumerStatsByName(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		onEvent(t, hub, "b", func(context.Context) {})
		a := onEvent(t, hub, "a", func(context.Context) {})
		require.NoError(t, a.Subscribe(t.Context(), "a2"))
		server.Notify("b", "e")
		server.Notify("b", "e")
		w, _ := watch(t, hub, "b")
		server.Notify("b", "e")
		w.await(t, "b e")
		passing(t, time.Millisecond, func() bool { return hub.Stats().Queued == 0 })
		stats := hub.ConsumerStats()
		require.Len(t, stats, 3)
		require.Equal(t, []string{"", "a", "b"}, []string{stats[0].Name, stats[1].Name, stats[2].Name})
		require.Equal(t, []string{"a", "a2"}, stats[1].Topics)
		require.Equal(t, uint64(1+3), stats[2].Delivered)
		require.Equal(t, stats[1], a.Stats())
	})
}

func TestConfigDefaults(t *testing.T) {
	cfg, err := Config{ListenConfig: new(pgx.ConnConfig)}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, 100*time.Millisecond, cfg.ReconnectMin)
	require.Equal(t, 30*time.Second, cfg.ReconnectMax)
	require.Equal(t, 10*time.Second, cfg.ProbeInterval)
	require.Equal(t, 5*time.Second, cfg.ProbeTimeout)
	require.Equal(t, 10*time.Second, cfg.StopTimeout)
	require.Equal(t, 16384, cfg.QueueSize)
	require.Equal(t, KeyValueCodec{}, cfg.Codec)
	require.False(t, cfg.Logger.Enabled(context.Background(), slog.LevelError), "silent")
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Config)
		refusal string // "": it is fine
	}{
		"nothing to connect with":        {func(c *Config) { c.Pool, c.ListenConfig = nil, nil }, "Pool or a ListenConfig"},
		"only ListenConfig":              {func(c *Config) { c.Pool, c.ListenConfig = nil, new(pgx.ConnConfig) }, ""},
		"name":                           {func(c *Config) { c.Name = strings.Repeat("ü", 100) }, ""},
		"name with NUL":                  {func(c *Config) { c.Name = "a\x00" }, "Name"},
		"name in another encoding":       {func(c *Config) { c.Name = "\xfc" }, "Name"},
		"equal backoff bounds":           {func(c *Config) { c.ReconnectMin, c.ReconnectMax = time.Second, time.Second }, ""},
		"only a long ReconnectMin":       {func(c *Config) { c.ReconnectMin = time.Hour }, ""},
		"only a short ReconnectMax":      {func(c *Config) { c.ReconnectMax = time.Millisecond }, ""},
		"ReconnectMin over ReconnectMax": {func(c *Config) { c.ReconnectMin, c.ReconnectMax = 2, 1 }, "no range"},
		"negative ReconnectMin":          {func(c *Config) { c.ReconnectMin = -1 }, "no range"},
		"negative ReconnectMax":          {func(c *Config) { c.ReconnectMax = -1 }, "no range"},
		"no probes":                      {func(c *Config) { c.ProbeInterval = -1 }, ""},
		"negative ProbeTimeout":          {func(c *Config) { c.ProbeTimeout = -1 }, "ProbeTimeout"},
		"negative StopTimeout":           {func(c *Config) { c.StopTimeout = -1 }, "StopTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Pool: unitPool()}
			c.change(&cfg)
			full, err := cfg.withDefaults()
			if c.refusal != "" {
				require.ErrorContains(t, err, c.refusal)
				return
			}
			require.NoError(t, err)
			require.Positive(t, full.ReconnectMin)
			require.LessOrEqual(t, full.ReconnectMin, full.ReconnectMax)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	hub, err := New(Config{})
	require.Error(t, err)
	require.Nil(t, hub)
}

func TestConsumerConfig(t *testing.T) {
	hub := &Config{QueueSize: 7, Codec: JSONCodec{}}
	full, err := ConsumerConfig{}.withDefaults(hub)
	require.NoError(t, err)
	require.Equal(t, 7, full.QueueSize)
	require.Equal(t, JSONCodec{}, full.Codec)

	full, err = ConsumerConfig{QueueSize: 3, Codec: RawCodec{}, Overflow: CloseConsumer, Topics: []string{"a"}}.withDefaults(hub)
	require.NoError(t, err)
	require.Equal(t, 3, full.QueueSize)
	require.Equal(t, RawCodec{}, full.Codec)

	for _, size := range []int{-1, math.MinInt} {
		full, err = ConsumerConfig{QueueSize: size}.withDefaults(hub)
		require.NoError(t, err)
		require.Equal(t, math.MaxInt, full.QueueSize, "unbounded")
	}
	_, err = ConsumerConfig{Overflow: -1}.withDefaults(hub)
	require.ErrorContains(t, err, "Overflow")
	_, err = ConsumerConfig{Overflow: CloseConsumer + 1}.withDefaults(hub)
	require.ErrorContains(t, err, "Overflow")
	_, err = ConsumerConfig{Topics: []string{"a", ""}}.withDefaults(hub)
	require.ErrorIs(t, err, ErrTopic)
}
