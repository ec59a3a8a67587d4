package pghub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// However calls, losses and refusals interleave: in the end the server listens to what consumers are subscribed to.
func TestTheServerListensToWhatIsWanted(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ReconnectMax: time.Second})
		startHub(t, hub)
		var consumers []*Consumer
		var calls sync.WaitGroup
		for range 6 {
			_, c := watch(t, hub)
			consumers = append(consumers, c)
			for range 3 {
				calls.Go(func() {
					for range 100 {
						topic := fmt.Sprint(rand.IntN(10))
						ctx, cancel := context.WithTimeout(context.Background(), rand.N(3*time.Second))
						if rand.IntN(2) == 0 {
							_ = c.Subscribe(ctx, topic) // may give up, be overtaken or be refused
						} else {
							_ = c.Unsubscribe(ctx, topic)
						}
						cancel()
						time.Sleep(rand.N(time.Second))
					}
				})
			}
		}
		calls.Go(func() {
			for range 100 {
				release := server.Hold(func(string) bool { return rand.IntN(2) == 0 })
				time.Sleep(rand.N(2 * time.Second))
				release()
				switch rand.IntN(4) {
				case 0:
					server.Kill()
				case 1:
					server.RefuseQuery(refuseListen(fmt.Sprint(rand.IntN(10))))
				case 2:
					server.RefuseQuery(nil)
				}
			}
			server.RefuseQuery(nil)
		})
		calls.Wait()
		time.Sleep(time.Minute)
		var wanted []string
		for _, c := range consumers {
			wanted = append(wanted, c.Topics()...)
		}
		slices.Sort(wanted)
		wanted = slices.Compact(wanted)
		require.Equal(t, wanted, server.Listening())
		require.Equal(t, len(wanted), hub.Stats().Listening)
	})
}

// activity is what the server says about the hub's listener connection.
func activity(t *testing.T, conn *pgx.Conn, hub *Hub, column string) (value string) {
	t.Helper()
	err := conn.QueryRow(within(t), "SELECT "+column+"::text FROM pg_stat_activity WHERE pid = $1", hub.Stats().PID).Scan(&value)
	require.NoError(t, err)
	return value
}

func poolOf(t *testing.T, dsn string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	change(cfg)
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestTheListenerConnectionIsTheHubsOwn(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := poolOf(t, dsn, func(cfg *pgxpool.Config) { cfg.MaxConns = 1 })
	hub := realHub(t, Config{Pool: pool, Name: "orders"})
	w, _ := watch(t, hub, "a")

	held, err := pool.Acquire(within(t))
	require.NoError(t, err)
	startHub(t, hub) // although the pool has nothing to give
	require.EqualValues(t, 1, pool.Stat().TotalConns())
	require.NotEqual(t, held.Conn().PgConn().PID(), hub.Stats().PID)
	held.Release()
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	w.expect(t, lineConnect, lineSubscribe("a"), "a e")

	other := pgtest.Conn(t, dsn)
	require.Equal(t, "pghub:orders", activity(t, other, hub, "application_name"))
	require.Equal(t, "idle", activity(t, other, hub, "state"), "nothing is delivered inside a transaction")
}

// The listener may take another way than the pool, and a hub that only listens needs no pool.
func TestAConnectionConfigurationOfItsOwn(t *testing.T) {
	dsn := pgtest.Database(t)
	cfg := parsed(t, dsn, func(*url.URL) {})
	passed := false
	cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		passed = true
		return conn, nil
	}
	before := cfg.Copy()
	hub := realHub(t, Config{ListenConfig: cfg})
	w, _ := watch(t, hub, "a")
	startHub(t, hub)
	require.True(t, passed)
	require.Equal(t, before.RuntimeParams, cfg.RuntimeParams, "the caller's configuration is left alone")
	require.ErrorIs(t, hub.Notify(within(t), "a", nil, nil), ErrNoPool)
	require.ErrorIs(t, hub.NotifyPayload(within(t), "a", "e"), ErrNoPool)

	both := realHub(t, Config{Pool: pgtest.Pool(t, dsn), ListenConfig: cfg})
	startHub(t, both)
	require.NoError(t, both.Notify(within(t), "a", nil, nil))
	w.expect(t, lineConnect, lineSubscribe("a"), "a e")
}

func TestApplicationName(t *testing.T) {
	dsn := pgtest.Database(t)
	for name, want := range map[string]string{
		"":                       "pghub",
		"orders":                 "pghub:orders",
		strings.Repeat("x", 100): "pghub:" + strings.Repeat("x", 57),
	} {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn), Name: name})
		startHub(t, hub)
		require.Equal(t, want, activity(t, pgtest.Conn(t, dsn), hub, "application_name"))
		require.Equal(t, name, hub.Name())
	}
}

// A role made for the hub may come with a past.
func TestSettingsOfTheRoleDoNotMatter(t *testing.T) {
	dsn := pgtest.Database(t)
	admin := pgtest.Conn(t, dsn)
	role := fmt.Sprintf("pghub_role_%d", rand.Uint32())
	settings := []string{
		`CREATE ROLE ` + role + ` LOGIN PASSWORD 'postgres'`,
		`ALTER ROLE ` + role + ` SET client_encoding = 'LATIN1'`,
		`ALTER ROLE ` + role + ` SET default_transaction_read_only = on`,
	}
	endsIdleSessions := pgtest.Shared(t).Version() >= 140000
	if endsIdleSessions {
		settings = append(settings, `ALTER ROLE `+role+` SET idle_session_timeout = '1s'`)
	}
	for _, sql := range settings {
		_, err := admin.Exec(within(t), sql)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		_, err := admin.Exec(within(t), `DROP ROLE `+role)
		assert.NoError(t, err)
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "postgres")
	cfg, err := pgx.ParseConfig(u.String())
	require.NoError(t, err)

	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn), ListenConfig: cfg})
	w, _ := watch(t, hub, "a")
	startHub(t, hub)
	if endsIdleSessions {
		other, err := pgx.ConnectConfig(within(t), cfg)
		require.NoError(t, err)
		var ended *pgconn.PgError
		_, err = other.WaitForNotification(within(t))
		require.ErrorAs(t, err, &ended)
		require.Equal(t, "57P05", ended.Code)
	}
	require.NoError(t, hub.Notify(within(t), "a", nil, "é日本"))
	w.expect(t, lineConnect, lineSubscribe("a"), `a e:"é日本"`)
	require.Equal(t, role, activity(t, admin, hub, "usename"))
}

// Managed services hand out passwords that expire: BeforeConnect puts in the one of the hour, for the listener as well.
func TestPasswordsThatRotate(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{HBA: "host all all all scram-sha-256"})
	var token atomic.Value
	token.Store("postgres")
	pool := poolOf(t, server.DSN(), func(cfg *pgxpool.Config) {
		cfg.ConnConfig.Password = "expired"
		cfg.BeforeConnect = func(_ context.Context, cfg *pgx.ConnConfig) error {
			cfg.Password = token.Load().(string)
			return nil
		}
	})
	hub := realHub(t, Config{Pool: pool})
	w, _ := watch(t, hub, "a")
	startHub(t, hub)
	for _, password := range []string{"second", "third"} {
		_, err := pool.Exec(within(t), `ALTER ROLE postgres PASSWORD '`+password+`'`)
		require.NoError(t, err)
		token.Store(password)
		_, err = pool.Exec(within(t), `SELECT pg_terminate_backend($1)`, hub.Stats().PID)
		require.NoError(t, err)
		w.await(t, lineReconnect)
		awaitState(t, hub, StateListening)
	}
	require.NoError(t, hub.Notify(within(t), "a", nil, nil))
	w.expect(t, "a e")
}

// awaitState waits for a state that is about to be reached.
func awaitState(t *testing.T, hub *Hub, want State) {
	t.Helper()
	require.Eventually(t, func() bool { return hub.State() == want }, patience, time.Millisecond)
}
