package pghub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
)

// pooledHub starts a hub whose pool, and only that, connects through a proxy.
func pooledHub(t *testing.T, cfg Config, change func(*pgxpool.Config)) (*Hub, *witness, *faultproxy.Proxy) {
	t.Helper()
	pgtest.CheckLeaks(t)
	dsn := pgtest.Database(t)
	direct, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	target := net.JoinHostPort(direct.Host, strconv.Itoa(int(direct.Port)))
	proxy, err := faultproxy.New(target)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	require.Contains(t, dsn, target)
	cfg.Pool = poolOf(t, strings.Replace(dsn, target, proxy.Addr(), 1), change)
	t.Cleanup(proxy.Reset) // closing the pool would wait for an answer through a black hole
	cfg.ListenConfig = direct
	hub := hubOf(t, cfg)
	w, _ := watch(t, hub, "a")
	startHub(t, hub)
	w.expect(t, lineConnect, lineSubscribe("a"))
	return hub, w, proxy
}

// openConns opens n connections of a pool and gives them back.
func openConns(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	var conns []*pgxpool.Conn
	for range n {
		conn, err := pool.Acquire(within(t))
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Release()
	}
}

// The network has forgotten all connections of the pool, and the server is there: only one call hears of it, whether the
// pool looks at a connection before it hands it out, or the statement is the first to meet the silence.
func TestPublishPastHalfOpenConnections(t *testing.T) {
	for name, c := range map[string]struct {
		looks bool
		want  error
	}{
		"the pool looks":      {true, ErrNotConnected},
		"the statement meets": {false, ErrUnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			hub, w, proxy := pooledHub(t, Config{PublishTimeout: 4 * time.Second}, func(cfg *pgxpool.Config) {
				cfg.MaxConns = 8
				cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return c.looks }
			})
			openConns(t, hub.cfg.Pool, 6)
			for _, conn := range proxy.Conns() {
				conn.Set(faultproxy.Fault{Blackhole: true})
			}
			require.ErrorIs(t, hub.Notify(within(t), "a", []int64{1}, nil), c.want)
			require.NoError(t, hub.Notify(within(t), "a", []int64{2}, nil))
			w.expect(t, "a e2")
		})
	}
}

// throw is what a hook may do to the goroutine that calls it.
var throws = map[string]func(){
	"panic":  func() { panic(errThrown) },
	"Goexit": runtime.Goexit,
}

var errThrown = errors.New("thrown by a hook")

// tracer is a pgx tracer that goes wrong in one place.
type tracer struct {
	acquireStart, queryStart, queryEnd func()
}

func runHook(f func()) {
	if f != nil {
		f()
	}
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	runHook(tr.queryStart)
	return ctx
}

func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	runHook(tr.queryEnd)
}

func (tr *tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	runHook(tr.acquireStart)
	return ctx
}

func (tr *tracer) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {}

// (The pool itself loses a connection to a hook that throws while it holds one, as BeforeAcquire does, and then cannot be
// closed any more: no part of this test.)
//
// A hook of the pool, or a tracer, that throws harms nobody but those whose statement it is: each of them is answered, and
// the next statement is sent.
func TestPublishSurvivesHooks(t *testing.T) {
	hooks := map[string]func(cfg *pgxpool.Config, f func()){
		"TraceAcquireStart": func(cfg *pgxpool.Config, f func()) { cfg.ConnConfig.Tracer = &tracer{acquireStart: f} },
		"TraceQueryStart":   func(cfg *pgxpool.Config, f func()) { cfg.ConnConfig.Tracer = &tracer{queryStart: f} },
		"TraceQueryEnd":     func(cfg *pgxpool.Config, f func()) { cfg.ConnConfig.Tracer = &tracer{queryEnd: f} },
	}
	for name, hook := range hooks {
		for way, throw := range throws {
			t.Run(name+", "+way, func(t *testing.T) {
				const callers = 20
				var armed atomic.Bool
				pool := poolOf(t, pgtest.Database(t), func(cfg *pgxpool.Config) {
					cfg.MaxConns = 4
					hook(cfg, func() {
						if armed.CompareAndSwap(true, false) {
							throw()
						}
					})
				})
				errs := newErrorLog()
				hub, err := New(Config{Pool: pool, OnError: errs.onError})
				require.NoError(t, err)
				startHub(t, hub)
				armed.Store(true)
				var calls sync.WaitGroup
				outcomes := make([]error, callers)
				for i := range callers {
					outcomes[i] = fmt.Errorf("%w: %w: the caller's own goroutine was ended", ErrPanic, ErrUnknownOutcome)
					calls.Go(func() { outcomes[i] = hub.Notify(within(t), "a", []int64{int64(i)}, nil) })
				}
				calls.Wait()
				require.False(t, armed.Load(), "the hook has not been called")
				thrown := 0
				for _, err := range outcomes {
					if err == nil {
						continue
					}
					thrown++
					require.ErrorIs(t, err, ErrPanic)
					if way == "panic" {
						require.ErrorIs(t, err, errThrown, "the cause is told")
					}
					require.True(t, errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrNotConnected))
				}
				require.Positive(t, thrown)
				errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
				require.NoError(t, hub.Notify(within(t), "a", nil, nil))
				require.NoError(t, hub.Stop(within(t)))
			})
		}
	}
}

// What the search path of a connection finds first may be anything: the functions are those of the system.
func TestPublishWhateverTheSearchPath(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := pgtest.Conn(t, dsn)
	_, err := conn.Exec(within(t), `CREATE SCHEMA mine;
		CREATE FUNCTION mine.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT NULL::void';
		CREATE FUNCTION mine.convert_from(bytea, name) RETURNS text LANGUAGE sql AS $$SELECT 'mine'::text$$;
		CREATE FUNCTION mine.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT NULL::anyelement WHERE false';
		CREATE FUNCTION mine.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE FUNCTION mine.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE FUNCTION mine.current_setting(text, bool) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'mine'; END$$;
		CREATE FUNCTION mine.set_config(text, text, bool) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'mine'; END$$;
		CREATE DOMAIN mine.text AS pg_catalog.text CHECK (false);
		CREATE DOMAIN mine.bytea AS pg_catalog.bytea CHECK (false)`)
	require.NoError(t, err)
	for _, encoding := range []string{"UTF8", "LATIN1"} {
		pool := poolOf(t, dsn, func(cfg *pgxpool.Config) {
			cfg.ConnConfig.RuntimeParams["search_path"] = "mine, pg_catalog"
			cfg.ConnConfig.RuntimeParams["client_encoding"] = encoding
		})
		listen := pool.Config().ConnConfig
		listen.RuntimeParams["client_encoding"] = "UTF8"
		hub := realHub(t, Config{Pool: pool, ListenConfig: listen})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		tx, err := pool.Begin(within(t))
		require.NoError(t, err)
		require.NoError(t, hub.NotifyTx(within(t), tx, "a", nil, "é"))
		require.NoError(t, tx.Commit(within(t)))
		w.expect(t, lineConnect, lineSubscribe("a"), `a e:"é"`)
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if err := hub.Notify(within(t), "a", nil, "é"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		require.Less(t, hub.Stats().PublishBatches, uint64(20), "some went together")
		for range 20 {
			require.Equal(t, "a", w.take(t).Topic)
		}
	}
}

func listenerOn(t *testing.T, dsn string) *pgx.Conn {
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	conn, err := pgx.ConnectConfig(within(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(within(t), "LISTEN a")
	require.NoError(t, err)
	return conn
}

func TestNotifyTxOnConnectionsInAnotherEncoding(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	conn := listenerOn(t, dsn)
	pool := poolOf(t, dsn, func(*pgxpool.Config) {})
	hub := unitHub(t, Config{})
	c, err := pool.Acquire(within(t))
	require.NoError(t, err)
	defer c.Release()
	for name, ex := range map[string]Execer{"pgxpool.Conn": c, "pgx.Conn": c.Conn(), "pgxpool.Pool": pool} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, hub.NotifyTx(within(t), ex, "a", nil, "é"))
			n, err := conn.WaitForNotification(within(t))
			require.NoError(t, err)
			require.Equal(t, `e:"é"`, n.Payload)
		})
	}
}

func TestNotifyBySimpleProtocolInAnotherEncoding(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	pool := poolOf(t, dsn, func(cfg *pgxpool.Config) { cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
	hub := realHub(t, Config{Pool: pool})
	startHub(t, hub)
	err := hub.Notify(within(t), "a", nil, "é")
	require.NoError(t, err)
}

func TestEncodeRefusesInvalidTextDeepDown(t *testing.T) {
	var v any = "\xff"
	for range 600 {
		v = []any{v}
	}
	b, err := KeyValueCodec{}.Append(nil, nil, v)
	require.ErrorIs(t, err, ErrValue, "%q", b)
}

type linkedText struct {
	V string      `json:"v,omitempty"`
	N *linkedText `json:"n,omitempty"`
}

func TestEncodeRefusesInvalidTextDeepInAList(t *testing.T) {
	n := &linkedText{V: "\xff"}
	for range 600 {
		n = &linkedText{N: n}
	}
	b, err := KeyValueCodec{}.Append(nil, nil, n)
	require.Less(t, len(b), maxPayload)
	require.ErrorIs(t, err, ErrValue, "%.60q…", b)
}

func TestLimitForgetsTheStatementBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limit
		_, end := l.begin(context.Background())
		l.allow(time.Second, errors.New("first"))
		time.Sleep(time.Second - 1)
		end() // in time
		ctx, end := l.begin(context.Background())
		time.Sleep(time.Nanosecond) // the goroutine is preempted between begin and allow
		synctest.Wait()
		l.allow(time.Second, errors.New("second"))
		require.NoError(t, ctx.Err(), "%v", context.Cause(ctx))
		end()
		l.close()
	})
}

func TestPublisherTakesAnswersForSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		resets := 0
		var answer error
		f := &publishFuncs{send: func(ctx context.Context, _, _ []string) error {
			<-ctx.Done() // pgx asks the server to cancel
			if answer != nil {
				return answer
			}
			return ctx.Err()
		}}
		s.p.pool = &countedResets{f, &resets}
		publish := func(patience time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return s.p.publish(ctx, notification{"a", "e"}, nil)
		}
		almost := publishTimeout/2 - time.Nanosecond // of silence is no reason yet
		for range 10 {
			answer = &pgconn.PgError{Code: "57014", SeverityUnlocalized: "ERROR"}
			require.NotErrorIs(t, publish(time.Second), ErrUnknownOutcome)
			answer = nil
			require.ErrorIs(t, publish(almost), ErrUnknownOutcome)
		}
		require.Zero(t, resets)
		require.ErrorIs(t, publish(time.Nanosecond), ErrUnknownOutcome)
		require.Equal(t, 1, resets)
	})
}

type countedResets struct {
	*publishFuncs
	n *int
}

func (a *countedResets) reset() { *a.n++ }

func TestPublisherAnswersAtTheCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		release := make(chan struct{})
		first := s.call(context.Background(), "a", "e1")
		st := s.next("e1")
		second := s.call(context.Background(), "a", "e2")
		s.acquiring = func() { <-release }
		st.end(nil)
		require.NoError(t, <-first)
		s.cut()
		closed := make(chan struct{})
		cut, cancel := context.WithCancel(context.Background())
		cancel()
		go func() { s.p.close(cut); close(closed) }()
		<-closed
		time.Sleep(time.Hour)
		select {
		case err := <-second:
			require.ErrorIs(t, err, ErrNotConnected)
		default:
			t.Error("no answer, an hour after the hub was cut off")
		}
		close(release)
	})
}
