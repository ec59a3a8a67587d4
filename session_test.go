package pghub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

func TestASubscribeThatGivesUpIsUndone(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "had before")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := c.Subscribe(ctx, "b", "c", "had before")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"had before"}, c.Topics())
		release()
		synctest.Wait()
		require.Equal(t, []string{"had before"}, server.Listening())
		w.expect(t, lineConnect, lineSubscribe("had before"))
		require.Empty(t, w.rest())

		require.ErrorIs(t, c.Subscribe(ctx, "d"), context.DeadlineExceeded, "the context has ended before the call")
		require.Equal(t, []string{"had before"}, c.Topics())
	})
}

func TestTwoCallsThatWaitForOneTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub)
		startHub(t, hub)
		subscribe := func(patience time.Duration) <-chan error {
			return background(func() error {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				return c.Subscribe(ctx, "a")
			})
		}

		release := server.Hold(mentions("LISTEN"))
		first := subscribe(time.Second)
		synctest.Wait()
		second := subscribe(time.Hour)
		require.ErrorIs(t, outcome(t, first), context.DeadlineExceeded)
		require.Equal(t, []string{"a"}, c.Topics(), "the other one still wants it")
		release()
		require.NoError(t, outcome(t, second))
		w.expect(t, lineConnect, lineSubscribe("a"))
		require.NoError(t, c.Unsubscribe(within(t), "a"))

		release = server.Hold(mentions("LISTEN"))
		first = subscribe(time.Second)
		synctest.Wait()
		second = subscribe(2 * time.Second)
		require.ErrorIs(t, outcome(t, first), context.DeadlineExceeded)
		require.ErrorIs(t, outcome(t, second), context.DeadlineExceeded)
		require.Empty(t, c.Topics())
		release()
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.Empty(t, w.rest())
	})
}

func refuseListen(topic string) func(string) *pgproto3.ErrorResponse {
	return func(sql string) *pgproto3.ErrorResponse {
		if strings.Contains(sql, `LISTEN "`+topic+`"`) {
			return &pgproto3.ErrorResponse{Code: "22P05", Message: "no equivalent"}
		}
		return nil
	}
}

// The server refuses a statement whole. Who is refused learns it by name; who rode in the same statement does not notice.
func TestARefusedTopicFailsItsSubscribeOnly(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		server.RefuseQuery(refuseListen("bad"))
		release := server.Hold(mentions(`"in flight"`))
		calls := map[string]<-chan error{}
		for _, topic := range []string{"in flight", "b", "bad", "c"} {
			calls[topic] = background(func() error { return c.Subscribe(context.Background(), topic) })
			synctest.Wait()
		}
		calls["bad too"] = background(func() error { return c.Subscribe(context.Background(), "d", "bad") })
		synctest.Wait()
		release()
		for _, topic := range []string{"in flight", "b", "c"} {
			require.NoError(t, outcome(t, calls[topic]))
		}
		for _, topic := range []string{"bad", "bad too"} {
			err := outcome(t, calls[topic])
			require.EqualError(t, err, `pghub: subscribe: pghub: LISTEN on topic "bad" refused: ERROR: no equivalent (SQLSTATE 22P05)`)
			var refused *ListenError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "bad", refused.Topic)
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
		}
		require.Equal(t, []string{"a", "b", "c", "in flight"}, c.Topics())
		synctest.Wait()
		require.Equal(t, c.Topics(), server.Listening())
		require.NotContains(t, w.lines(), lineSubscribe("bad"))

		server.RefuseQuery(nil)
		time.Sleep(2 * defaultReconnectMax)
		require.Equal(t, c.Topics(), server.Listening(), "nobody asked for it again")
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

// flood is a consumer's handler, and a connection that publishes numbered events as fast as that receives them.
type flood struct {
	topic, padding string
	ahead          chan struct{} // a token for each event that may be under way: the server answers nobody it has much to tell
	received       atomic.Int64
	misplaced      atomic.Int64
}

func newFlood(topic, padding string) *flood {
	f := &flood{topic: topic, padding: padding, ahead: make(chan struct{}, 1000)}
	for range cap(f.ahead) {
		f.ahead <- struct{}{}
	}
	return f
}

func (f *flood) handle(_ context.Context, ev *Event) {
	if ev.Advisory != nil {
		return
	}
	if f.received.Add(1)-1 != ev.Key[0] {
		f.misplaced.Add(1)
	}
	f.ahead <- struct{}{}
}

// start publishes until the test calls stop.
func (f *flood) start(t *testing.T, dsn string) (stop func() (sent int)) {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	ctx, cancel := context.WithCancel(context.Background())
	sent := 0
	done := background(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-f.ahead:
			}
			if _, err := conn.Exec(context.Background(), `SELECT pg_notify($1, $2)`, f.topic, fmt.Sprintf("e%d%s", sent, f.padding)); err != nil {
				return err
			}
			sent++
		}
	})
	stop = sync.OnceValue(func() int {
		cancel()
		require.NoError(t, outcome(t, done))
		return sent
	})
	t.Cleanup(func() { stop() })
	return stop
}

// requireAll requires that everything sent has been received, in order.
func (f *flood) requireAll(t *testing.T, sent int) {
	t.Helper()
	require.EqualValues(t, sent, f.received.Load())
	require.Zero(t, f.misplaced.Load())
}

// Subscribe has returned: what anybody commits after that moment arrives.
func TestSubscribeIsInEffectWhenItReturns(t *testing.T) {
	const topics = 300
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	load := newFlood("load", "")
	_, err := hub.Consumer(context.Background(), load.handle, &ConsumerConfig{Topics: []string{"load"}})
	require.NoError(t, err)
	startHub(t, hub)
	stop := load.start(t, dsn)
	other := pgtest.Conn(t, dsn)
	w, c := watch(t, hub)
	for i := range topics {
		topic := fmt.Sprint("t", i)
		require.NoError(t, c.Subscribe(within(t), topic))
		_, err := other.Exec(within(t), `NOTIFY `+topic+`, 'e'`)
		require.NoError(t, err)
	}
	for i := range topics {
		topic := fmt.Sprint("t", i)
		w.expect(t, lineSubscribe(topic), topic+" e")
	}
	sent := stop()
	require.NoError(t, hub.Stop(within(t)))
	load.requireAll(t, sent)
}

// A socket that always has something to read keeps nobody from being subscribed.
func TestSubscribeUnderSaturation(t *testing.T) {
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	padding := ":" + strings.Repeat(" ", 7900) + "0"
	floods := []*flood{newFlood("flood0", padding), newFlood("flood1", padding)}
	for _, f := range floods {
		_, err := hub.Consumer(context.Background(), f.handle, &ConsumerConfig{Topics: []string{f.topic}})
		require.NoError(t, err)
	}
	startHub(t, hub)
	stops := []func() int{floods[0].start(t, dsn), floods[1].start(t, dsn)}
	_, c := watch(t, hub)
	for i := range 50 {
		topic := fmt.Sprint("t", i)
		require.NoError(t, c.Subscribe(within(t), topic))
		require.NoError(t, hub.Notify(within(t), topic, nil, nil))
		require.NoError(t, c.Unsubscribe(within(t), topic))
	}
	sent := []int{stops[0](), stops[1]()}
	require.NoError(t, hub.Stop(within(t)))
	for i, f := range floods {
		f.requireAll(t, sent[i])
	}
	require.Zero(t, hub.Stats().Reconnects)
}

// What was committed before Stop was called is delivered before stop, whoever committed it.
func TestStopReceivesWhatWasCommitted(t *testing.T) {
	const events = 1000
	dsn := pgtest.Database(t)
	other := pgtest.Conn(t, dsn)
	for range 5 {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		_, err := other.Exec(within(t), `SELECT pg_notify('a', 'e' || n) FROM generate_series(0, $1 - 1) n`, events)
		require.NoError(t, err)
		require.NoError(t, hub.Stop(within(t)))
		w.requireNumbers(t, "a", events)
		lines := w.lines()
		require.Equal(t, lineStop, lines[len(lines)-1])
	}
}

// A database that is not in UTF-8 has no word for some topics.
func TestATopicThatTheDatabaseCannotName(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	t.Run("at Start", func(t *testing.T) {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, _ := watch(t, hub, "é", "日本")
		err := hub.Start(within(t))
		requireRefused(t, err, "日本")
		require.Equal(t, []string{lineStop}, w.lines())
		require.ErrorIs(t, w.take(t).Advisory.Err, err.(interface{ Unwrap() error }).Unwrap())
	})
	t.Run("at Subscribe", func(t *testing.T) {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, c := watch(t, hub, "é")
		startHub(t, hub)
		requireRefused(t, c.Subscribe(within(t), "a", "日本"), "日本")
		require.Equal(t, []string{"é"}, c.Topics())
		require.NoError(t, hub.Notify(within(t), "é", nil, "ü"))
		w.await(t, `é e:"ü"`)
		_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"日本"}})
		requireRefused(t, err, "日本")
		require.Zero(t, hub.Stats().Reconnects)
	})
}

func requireRefused(t *testing.T, err error, topic string) {
	t.Helper()
	var refused *ListenError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, topic, refused.Topic)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Contains(t, []string{"22P05", "22021"}, pgErr.Code)
	require.True(t, errors.Is(err, pgErr))
}
