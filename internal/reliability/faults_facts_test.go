package reliability

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// stateOf returns the SQLSTATE with which a statement fails, "" if it does not.
func stateOf(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	if err != nil {
		require.NotEmpty(t, sqlState(err), err)
	}
	return sqlState(err)
}

// TestFaultFactsLimits: what PostgreSQL takes and what it refuses. The hub's own limits are the same, to the byte.
func TestFaultFactsLimits(t *testing.T) {
	dsn := pgtest.Database(t)
	conn := pgtest.Conn(t, dsn)
	longest := strings.Repeat("é", 31) + "x" // 63 bytes
	hub, d := startFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, dsn)}, "t", longest)
	d.expect(t, "connect", "subscribe t", "subscribe "+longest)

	full := "e:" + strings.Repeat("é", 3998) + "x" // 7,999 bytes
	require.NoError(t, hub.NotifyPayload(t.Context(), "t", full))
	d.expect(t, "t="+full)
	require.ErrorIs(t, hub.NotifyPayload(t.Context(), "t", full+"x"), pghub.ErrPayloadTooLarge)
	require.Empty(t, stateOf(t, conn, "SELECT pg_notify('other', $1)", full))
	require.Equal(t, "22023", stateOf(t, conn, "SELECT pg_notify('other', $1)", full+"x"))
	require.Equal(t, "22021", stateOf(t, conn, "SELECT pg_notify('t', $1)", "\x00"))
	require.Equal(t, "22021", stateOf(t, conn, "SELECT pg_notify('t', $1)", "\xff"))

	require.NoError(t, hub.NotifyPayload(t.Context(), longest, "e"))
	d.expect(t, longest+"=e")
	require.ErrorIs(t, hub.NotifyPayload(t.Context(), longest+"x", "e"), pghub.ErrTopic)
	require.Equal(t, "22023", stateOf(t, conn, "SELECT pg_notify($1, 'e')", longest+"x"))
}

// TestFaultFactsNames: what PostgreSQL makes of names that are not quoted, too long or wrong; the hub takes every topic for
// what it is.
func TestFaultFactsNames(t *testing.T) {
	dsn := pgtest.Database(t)
	var notices []string
	cfg := listenTo(t, dsn)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Code) }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	listening := func() (names []string) {
		rows, err := conn.Query(t.Context(), "SELECT pg_listening_channels() ORDER BY 1")
		require.NoError(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	require.Empty(t, stateOf(t, conn, "LISTEN Foo"))
	require.Equal(t, []string{"foo"}, listening())
	require.Empty(t, stateOf(t, conn, `LISTEN "`+strings.Repeat("x", 64)+`"`))
	require.Equal(t, []string{"42622"}, notices, "name truncated")
	require.Equal(t, []string{"foo", strings.Repeat("x", 63)}, listening())
	require.Equal(t, "42601", stateOf(t, conn, "LISTEN user"))
	_, err = conn.PgConn().Exec(t.Context(), `LISTEN good; LISTEN ""; LISTEN better`).ReadAll()
	require.Equal(t, "42601", sqlState(err))
	require.Len(t, listening(), 2, "all of them are undone")

	topics := []string{"Foo", "foo", "user", `a"b`, "a;b", "it's", "-- x", "$1", " ", "日本", "a\nb", `\`}
	hub, d := startFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, dsn)}, topics...)
	d.expect(t, "connect")
	for _, topic := range topics {
		d.expect(t, "subscribe "+topic)
	}
	for _, topic := range topics {
		require.NoError(t, hub.Notify(t.Context(), topic, nil, nil))
		d.expect(t, topic+"=e")
	}
}

// TestFaultFactsTransactions: nothing is delivered within a transaction, and equal notifications of one transaction are
// delivered once; those of different calls of Notify are all delivered.
func TestFaultFactsTransactions(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	hub, d := startFaultHub(t, pghub.Config{Pool: pool}, "t")
	d.expect(t, "connect", "subscribe t")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for range 3 {
			require.NoError(t, hub.NotifyTx(t.Context(), tx, "t", []int64{1}, nil))
		}
		return nil
	}))
	d.expect(t, "t=e1")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		require.NoError(t, hub.NotifyTx(t.Context(), tx, "t", []int64{2}, nil))
		return context.Canceled // rolled back
	})
	require.ErrorIs(t, err, context.Canceled)

	const calls = 200
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if err := hub.Notify(t.Context(), "t", []int64{3}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range calls {
		_, ev := d.next(t)
		require.Equal(t, []int64{3}, ev.Key)
		require.Nil(t, ev.Value)
	}

	listener := pgtest.Conn(t, dsn)
	_, err = listener.Exec(t.Context(), "LISTEN t; BEGIN")
	require.NoError(t, err)
	require.NoError(t, hub.Notify(t.Context(), "t", []int64{4}, nil))
	d.expect(t, "t=e4") // so it has been delivered to everybody who takes it
	limit, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = listener.WaitForNotification(limit)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
