package pghub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

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
	for attempt := 1; ; attempt++ {
		_, err := other.Exec(within(t), `SELECT pg_notify($1, 'e' || $2::int)`, topic, attempt)
		require.NoError(t, err)
		line := lineOf(w.take(t))
		for line != lineDisconnect && line != fmt.Sprintf("%s e%d", topic, attempt) { // one of those before, which has come after all
			line = lineOf(w.take(t))
		}
		if line != lineDisconnect {
			return
		}
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
				cfg.ProbeInterval, cfg.ProbeTimeout = 500*time.Millisecond, 10*time.Second
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
