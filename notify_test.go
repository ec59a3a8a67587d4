package pghub

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// doubleTx is a test's double of a transaction. conn answers for its connection.
type doubleTx struct {
	conn func() *pgx.Conn
	sql  string
	args []any
	err  error
}

func (tx *doubleTx) Conn() *pgx.Conn { return tx.conn() }

func (tx *doubleTx) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tx.sql, tx.args = sql, args
	return pgconn.CommandTag{}, tx.err
}

// Doubles of transactions have no connection to speak of: none, an empty one, or a panic where it is asked for.
func TestNotifyTxTakesDoubles(t *testing.T) {
	hub := unitHub(t, Config{})
	for name, conn := range map[string]func() *pgx.Conn{
		"nil":   func() *pgx.Conn { return nil },
		"empty": func() *pgx.Conn { return new(pgx.Conn) },
		"panic": func() *pgx.Conn { panic("Conn() is not available") },
	} {
		t.Run(name, func(t *testing.T) {
			tx := &doubleTx{conn: conn}
			require.NoError(t, hub.NotifyTx(t.Context(), tx, "a", []int64{1}, "é"))
			require.Equal(t, notifySQL, tx.sql)
			require.Equal(t, []any{"a", `e1:"é"`}, tx.args)
		})
	}
}

// The cause of a failure is there for errors.As: a caller tells a serialization failure, to be tried again, from the rest.
func TestErrorsOfPublishingKeepTheirCause(t *testing.T) {
	hub := unitHub(t, Config{})
	cause := &pgconn.PgError{Code: "40001", SeverityUnlocalized: "ERROR"}
	err := hub.NotifyTx(t.Context(), &doubleTx{conn: func() *pgx.Conn { return nil }, err: cause}, "a", nil, nil)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Same(t, cause, pgErr)
	require.ErrorContains(t, err, `notify "a"`)

	// A pool that the server does not let in.
	dsn := pgtest.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	pool := poolOf(t, dsn, func(cfg *pgxpool.Config) { cfg.ConnConfig.Database = "is_not_there" })
	publishing := realHub(t, Config{Pool: pool, ListenConfig: cfg})
	startHub(t, publishing)
	err = publishing.Notify(within(t), "a", nil, nil)
	require.ErrorIs(t, err, ErrNotConnected)
	pgErr = nil
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "3D000", pgErr.Code)

	// A listener that the server does not let in.
	cfg = cfg.Copy()
	cfg.Database = "is_not_there"
	err = realHub(t, Config{ListenConfig: cfg}).Start(within(t))
	require.ErrorIs(t, err, ErrNotConnected)
	pgErr = nil
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "3D000", pgErr.Code)
}

// A hung statement is over before a stop by Config.StopTimeout is cut off.
func TestStopTimeoutExceedsPublishTimeout(t *testing.T) {
	for given, want := range map[[2]time.Duration][2]time.Duration{
		{}:               {5 * time.Second, 10 * time.Second},
		{time.Second, 0}: {time.Second, 10 * time.Second},
		{time.Minute, 0}: {time.Minute, 2 * time.Minute},
		{0, time.Second}: {5 * time.Second, time.Second},
		{1, 2}:           {1, 2},
	} {
		cfg, err := Config{Pool: unitPool(), PublishTimeout: given[0], StopTimeout: given[1]}.withDefaults()
		require.NoError(t, err)
		require.Equal(t, want, [2]time.Duration{cfg.PublishTimeout, cfg.StopTimeout})
		limit := cfg.PublishTimeout + cfg.PublishTimeout/2 // for a connection, and for the statement
		require.True(t, given[1] > 0 || limit < cfg.StopTimeout)
	}
	_, err := Config{Pool: unitPool(), PublishTimeout: -1}.withDefaults()
	require.ErrorContains(t, err, "PublishTimeout -1ns")
}

// What was thrown can be told apart.
func TestThrown(t *testing.T) {
	cause := errors.New("cause")
	require.ErrorIs(t, thrown("x", cause), cause)
	require.EqualError(t, thrown("x", cause), "panic: x: cause")
	require.EqualError(t, thrown("x", 7), "panic: x: 7")
	require.EqualError(t, thrown("x", nil), "panic: x: runtime.Goexit was called")
	for _, value := range []any{cause, 7, nil} {
		require.ErrorIs(t, thrown("x", value), ErrPanic)
	}
}
