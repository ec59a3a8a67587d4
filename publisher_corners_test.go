package pghub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

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
	dsn := latin1Database(t)
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
	dsn := latin1Database(t)
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
		f := &publishFuncs{send: func(ctx context.Context, _, _ []string) error {
			<-ctx.Done() // pgx asks the server to cancel, and it answers
			return &pgconn.PgError{Code: "57014", SeverityUnlocalized: "ERROR"}
		}}
		s.p.pool = &countedResets{f, &resets}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := s.p.publish(ctx, notification{"a", "e"}, nil)
			require.NotErrorIs(t, err, ErrUnknownOutcome)
			cancel()
		}
		require.Zero(t, resets)
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
