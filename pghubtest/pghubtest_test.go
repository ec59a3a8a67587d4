package pghubtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
)

// log is a handler that writes down what it gets.
type log struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func newLog() *log { return &log{more: make(chan struct{}, 1)} }

func (l *log) handle(_ context.Context, ev *pghub.Event) {
	line := ev.Topic + " " + string(ev.Payload)
	if ev.Advisory != nil {
		line = string(ev.Advisory.Action)
	}
	l.mu.Lock()
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// next takes the next n lines.
func (l *log) next(t *testing.T, n int) []string {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		if len(l.lines) >= n {
			taken := l.lines[:n:n]
			l.lines = l.lines[n:]
			l.mu.Unlock()
			return taken
		}
		l.mu.Unlock()
		select {
		case <-l.more:
		case <-deadline.C:
			require.FailNow(t, "events are missing", "only %q", l.lines)
		}
	}
}

// eachWay runs a test in real time, and in a bubble.
func eachWay(t *testing.T, test func(t *testing.T)) {
	t.Run("real time", func(t *testing.T) {
		pgtest.CheckLeaks(t)
		test(t)
	})
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, test) })
}

func consume(t *testing.T, hub *pghub.Hub, topics ...string) *log {
	t.Helper()
	l := newLog()
	_, err := hub.Consumer(t.Context(), l.handle, &pghub.ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	return l
}

func TestHubOnServer(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		require.Same(t, hub, srv.Hub())
		require.Same(t, srv.Pool(), srv.Pool())
		seen := consume(t, hub, "a", "B \"b\"")
		require.Equal(t, []string{"B \"b\"", "a"}, srv.Listening())
		srv.Publish("a", []int64{1, -2}, map[string]int{"x": 3})
		srv.Notify("B \"b\"", "e")
		require.NoError(t, hub.Notify(t.Context(), "a", []int64{7}, "é"))
		require.Equal(t, []string{"subscribe", "subscribe", `a e1,-2:{"x":3}`, "B \"b\" e", `a e7:"é"`}, seen.next(t, 5))

		published := srv.Published()
		require.Len(t, published, 1, "what the test sent itself is not among it")
		ev, err := published[0].Event()
		require.NoError(t, err)
		require.Equal(t, []int64{7}, ev.Key)
		require.JSONEq(t, `"é"`, string(ev.Value))
		require.NotEqual(t, uint32(pghubtest.PID), published[0].PID)
	})
}

func TestConcurrentNotify(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		seen := consume(t, hub, "a")
		const callers, each = 20, 25
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if err := hub.Notify(context.Background(), "a", nil, "equal"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Len(t, seen.next(t, 1+callers*each), 1+callers*each)
		require.Len(t, srv.AwaitPublished(callers*each), callers*each)
		for _, n := range srv.Published() {
			ev, err := n.Event()
			require.NoError(t, err)
			require.Equal(t, `"equal"`, string(ev.Value))
		}
	})
}

func TestTransactions(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		seen := consume(t, hub, "a")
		in := func(do func(tx pgx.Tx) error) error { return pgx.BeginFunc(t.Context(), srv.Pool(), do) }
		require.NoError(t, in(func(tx pgx.Tx) error {
			require.NoError(t, hub.NotifyTx(t.Context(), tx, "a", []int64{1}, nil))
			require.NoError(t, hub.NotifyTx(t.Context(), tx, "a", []int64{1}, nil))
			require.ErrorIs(t, pgx.BeginFunc(t.Context(), tx, func(inner pgx.Tx) error {
				require.NoError(t, hub.NotifyTx(t.Context(), inner, "a", []int64{2}, nil))
				return errors.ErrUnsupported
			}), errors.ErrUnsupported)
			require.Empty(t, srv.Published())
			return hub.NotifyTx(t.Context(), tx, "a", []int64{3}, nil)
		}))
		require.ErrorIs(t, in(func(tx pgx.Tx) error {
			require.NoError(t, hub.NotifyTx(t.Context(), tx, "a", []int64{4}, nil))
			return errors.ErrUnsupported
		}), errors.ErrUnsupported)
		srv.Notify("a", "e5")
		require.Equal(t, []string{"subscribe", "a e1", "a e3", "a e5"}, seen.next(t, 4))
	})
}

func TestHandle(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			srv := pghubtest.New(t)
			names := map[string]string{"1": "Ada", "-2": "Bob"}
			srv.Handle(`SELECT id, name FROM users WHERE id = $1 -- by key`, []pghubtest.Column{{"id", pgtype.Int8OID}, {"name", pgtype.TextOID}},
				func(args [][]byte) ([][]any, error) {
					name, found := names[string(args[0])]
					if !found {
						return nil, nil
					}
					var id int64
					_, err := fmt.Sscan(string(args[0]), &id)
					return [][]any{{id, name}}, err
				})
			srv.Handle(`INSERT INTO users VALUES ($2, $1)`, nil, func(args [][]byte) ([][]any, error) {
				if args[1] == nil {
					return nil, &pgconn.PgError{Code: "23502", Message: "null value", ColumnName: "id"}
				}
				names[string(args[1])] = string(args[0])
				return make([][]any, 1), nil
			})
			cfg := srv.ConnConfig()
			cfg.DefaultQueryExecMode = mode
			conn := connect(t, cfg)
			type user struct {
				ID   int64
				Name string
			}
			get := func(id int64) (user, error) {
				rows, err := conn.Query(t.Context(), "select id, name from users\n\twhere id = $1::bigint", id)
				require.NoError(t, err)
				return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[user])
			}
			for range 2 {
				u, err := get(-2)
				require.NoError(t, err)
				require.Equal(t, user{-2, "Bob"}, u)
			}
			_, err := get(3)
			require.ErrorIs(t, err, pgx.ErrNoRows)
			tag, err := conn.Exec(t.Context(), `INSERT INTO users VALUES ($1, $2)`, int64(3), "it's Cy")
			require.NoError(t, err)
			require.Equal(t, "INSERT 0 1", tag.String())
			_, err = conn.Exec(t.Context(), `INSERT INTO users VALUES ($1, $2)`, nil, "x")
			requireCode(t, err, "23502")
			u, err := get(3)
			require.NoError(t, err)
			require.Equal(t, user{3, "it's Cy"}, u)
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT id, name FROM users WHERE id = 1`).Scan(&u.ID, &u.Name))
			require.Equal(t, user{1, "Ada"}, u)
		})
	}
}

// What the server does not know it refuses by name, and says what would help.
func TestUnknownStatement(t *testing.T) {
	srv := pghubtest.New(t)
	for _, sql := range []string{`SELECT now()`, `CREATE TABLE "T" ()`, `COPY t FROM STDIN`, `SELECT * FROM t WHERE a = 'it''s'`, `LISTEN a; SELECT now()`, `SELECT pg_notify('a')`} {
		_, err := srv.Pool().Exec(t.Context(), sql, pgx.QueryExecModeExec)
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, sql)
		require.Equal(t, "0A000", pgErr.Code, sql)
		require.Contains(t, pgErr.Message, "pghubtest does not know this statement")
		require.Contains(t, pgErr.Hint, "Handle")
		require.Contains(t, pgErr.Detail, "NOTIFY")
	}
	_, err := srv.Pool().Exec(t.Context(), `SELECT * FROM t WHERE a = 'it''s'`)
	require.ErrorContains(t, err, `select * from t where a = 'it''s'`)
	_, err = srv.Pool().Exec(t.Context(), `SELECT 1`)
	require.NoError(t, err, "the connection goes on")
}

func TestOwnConnections(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub, err := pghub.New(srv.Config())
		require.NoError(t, err)
		seen := newLog()
		_, err = hub.Consumer(t.Context(), seen.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		require.Equal(t, []string{"connect", "subscribe"}, seen.next(t, 2))
		require.NoError(t, hub.Stop(t.Context()))

		listenOnly := srv.NewHub(pghub.Config{ListenConfig: srv.ConnConfig()})
		heard := consume(t, listenOnly, "a")
		srv.AwaitListen("a")
		conn, err := pgx.ConnectConfig(t.Context(), srv.ConnConfig())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), `NOTIFY a, 'x'; NOTIFY a, 'y'`, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		require.Equal(t, []string{"subscribe"}, heard.next(t, 1))
		require.ErrorIs(t, listenOnly.Notify(t.Context(), "a", nil, nil), pghub.ErrNoPool)
		require.Len(t, srv.AwaitPublished(2), 2)
	})
}
