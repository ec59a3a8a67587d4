package pghub

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// A connector is what the user's configuration has a say in while the listener connects.
var connectHooks = map[string]func(cfg *pgxpool.Config, before func()){
	"DialFunc": func(cfg *pgxpool.Config, before func()) {
		dial := cfg.ConnConfig.DialFunc
		cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			before()
			return dial(ctx, network, addr)
		}
	},
	"LookupFunc": func(cfg *pgxpool.Config, before func()) {
		cfg.ConnConfig.Host = "a.host.to.look.up"
		cfg.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) {
			before()
			return []string{"127.0.0.1"}, nil
		}
	},
	"BeforeConnect": func(cfg *pgxpool.Config, before func()) {
		cfg.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
			before()
			return nil
		}
	},
	"ValidateConnect": func(cfg *pgxpool.Config, before func()) {
		cfg.ConnConfig.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
			before()
			return nil
		}
	},
}

// hookedHub makes a hub whose way to a scripted server leads through a hook.
func hookedHub(t *testing.T, server *fakepg.Server, hook func(*pgxpool.Config, func()), before func(), cfg Config) *Hub {
	t.Helper()
	poolCfg, err := pgxpool.ParseConfig(server.Config().ConnString())
	require.NoError(t, err)
	poolCfg.ConnConfig = server.Config()
	hook(poolCfg, before)
	cfg.Pool, err = pgxpool.NewWithConfig(context.Background(), poolCfg)
	require.NoError(t, err)
	t.Cleanup(cfg.Pool.Close)
	hub, err := New(cfg)
	require.NoError(t, err)
	return hub
}

// What connects may pay no heed to its context: Start returns all the same, and a connection that comes later is closed.
func TestStartEndsWhateverConnects(t *testing.T) {
	for name, hook := range connectHooks {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				release := make(chan struct{})
				hub := hookedHub(t, server, hook, func() { <-release }, Config{})
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				started := background(func() error { return hub.Start(ctx) })
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case err := <-started:
					require.ErrorIs(t, err, context.DeadlineExceeded)
				default:
					close(release)
					require.Fail(t, "Start has not returned")
				}
				require.Equal(t, StateStopped, hub.State())
				close(release)
				synctest.Wait()
				require.Zero(t, server.Sessions(), "the late connection is closed")
			})
		})
	}
}

// So does a stop that is cut off, and handlers end.
func TestStopEndsWhateverConnects(t *testing.T) {
	for name, hook := range connectHooks {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				release := make(chan struct{})
				stuck := false
				hub := hookedHub(t, server, hook, func() {
					if stuck {
						<-release
					}
				}, Config{})
				w, c := watch(t, hub, "a")
				startHub(t, hub)
				stuck = true
				server.Kill()
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect)
				time.Sleep(time.Second) // it is connecting
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = hub.Stop(ctx) // cut off or not
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case <-c.Done():
				default:
					close(release)
					require.Fail(t, "the consumer has not ended")
				}
				w.expect(t, lineStop)
				close(release)
				synctest.Wait()
				require.Zero(t, server.Sessions())
			})
		})
	}
}

// A hook that throws is an attempt that has failed.
func TestConnectSurvivesHooks(t *testing.T) {
	for name, hook := range connectHooks {
		for way, throw := range throws {
			t.Run(name+", "+way, func(t *testing.T) {
				onFake(t, func(t *testing.T, server *fakepg.Server) {
					left := 2
					errs := newErrorLog()
					hub := hookedHub(t, server, hook, func() {
						if left--; left >= 0 {
							throw()
						}
					}, Config{OnError: errs.onError})
					runInBackground(t, hub)
					w, _ := watch(t, hub, "a")
					w.expect(t, lineConnect, lineSubscribe("a"))
					err := errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
					require.ErrorIs(t, err, ErrNotConnected)
					if way == "panic" {
						require.ErrorIs(t, err, errThrown)
					}
				})
			})
		}
	}
}

// BeforeConnect is told when nobody waits for it any more.
func TestBeforeConnectHearsOfTheEnd(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		var heard error
		asked := make(chan struct{})
		hook := func(cfg *pgxpool.Config, _ func()) {
			cfg.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error {
				close(asked)
				_, limited := ctx.Deadline()
				require.True(t, limited)
				<-ctx.Done()
				heard = context.Cause(ctx)
				return heard
			}
		}
		hub := hookedHub(t, server, hook, nil, Config{})
		began := time.Now()
		started := background(func() error { return hub.Start(context.Background()) })
		<-asked
		require.NoError(t, hub.Stop(t.Context()))
		require.ErrorIs(t, <-started, ErrStopped)
		require.ErrorIs(t, heard, context.Canceled)
		require.Zero(t, time.Since(began), "at once")
	})
}
