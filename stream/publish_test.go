package stream_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// jam keeps whoever publishes from it, until open is called.
func (l *lab) jam() (open func()) {
	l.t.Helper()
	conn := pgtest.Conn(l.t, l.dsn)
	_, err := conn.Exec(l.t.Context(), `BEGIN; LOCK TABLE pghub.log_0, pghub.log_1, pghub.log_2 IN SHARE MODE`)
	require.NoError(l.t, err)
	return func() {
		_, err := conn.Exec(l.t.Context(), `COMMIT`)
		require.NoError(l.t, err)
	}
}

// publishing publishes on a goroutine of its own, and returns when n calls wait for the statement that is under way.
func (l *lab) publishing(ctx context.Context, value any, n int) <-chan error {
	l.t.Helper()
	result := make(chan error, 1)
	go func() { result <- l.s.Publish(ctx, "a", nil, value) }()
	eventually(l.t, "the call waits", func() bool {
		return stream.Waiting(l.s) == n && (n > 0 || one[bool](l, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE NOT granted AND a.query LIKE '%capture_all%' AND a.datname = current_database())`))
	})
	return result
}

// values waits for n events, and returns their values.
func (l *lab) values(n int) (values []string) {
	l.t.Helper()
	eventually(l.t, "the events are there", func() bool {
		values = collect(l.t, l, stream.Earliest)
		return len(values) >= n
	})
	return values
}

func TestCallsThatShareABatchGetTheirOwnAnswers(t *testing.T) {
	pgtest.CheckLeaks(t)
	latin1 := pgtest.Latin1Database(t) // has no place for everything that Go's texts can have
	l := &lab{t: t, dsn: latin1 + separator(latin1) + "client_encoding=UTF8"}
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, l.dsn)))
	l.join(stream.Config{})

	open := l.jam()
	first := l.publishing(t.Context(), "é", 0)
	good, bad, fine := l.publishing(t.Context(), 1, 1), l.publishing(t.Context(), "€", 2), l.publishing(t.Context(), 2, 3)
	open()
	require.NoError(t, <-first)
	require.NoError(t, <-good)
	require.NoError(t, <-fine)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, <-bad, &pgErr)
	require.Equal(t, "22P05", pgErr.Code)
	require.Equal(t, []string{`a "é"`, "a 1", "a 2"}, l.values(3))
	require.EqualValues(t, 3, l.s.Stats().Published)
}

// separator is what goes before one more parameter of a connection string.
func separator(dsn string) string {
	if strings.Contains(dsn, "?") {
		return "&"
	}
	return "?"
}

func TestAPoolThatDoesNotSpeakUTF8IsRefused(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, dsn)))
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, dsn)})
	require.NoError(t, err)
	_, err = stream.Open(t.Context(), hub, stream.Config{})
	require.ErrorIs(t, err, stream.ErrEncoding)
	require.ErrorContains(t, err, "LATIN1")
	require.NoError(t, hub.Stop(t.Context()))
}

// Who leaves before its event is on its way knows that it is not written; who leaves later does not know.
func TestACallerThatLeavesKnowsWhatBecomesOfItsEvent(t *testing.T) {
	l := newLab(t, stream.Config{})
	open := l.jam()
	under, leaveUnder := context.WithCancel(t.Context())
	first := l.publishing(under, 1, 0)
	waiting, leaveWaiting := context.WithCancel(t.Context())
	second := l.publishing(waiting, 2, 1)
	third := l.publishing(t.Context(), 3, 2)

	leaveWaiting()
	err := <-second
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, pghub.ErrUnknownOutcome)
	leaveUnder()
	err = <-first
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, pghub.ErrUnknownOutcome)
	open()
	require.NoError(t, <-third)
	require.Equal(t, []string{"a 1", "a 3"}, l.values(2))
}

// tracer panics when it is told to.
type tracer struct{ panics atomic.Bool }

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "capture_all") && tr.panics.Swap(false) {
		panic("the tracer's")
	}
	return ctx
}

func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestATracerThatPanicsEndsNoProcess(t *testing.T) {
	pgtest.CheckLeaks(t)
	l := &lab{t: t, dsn: pgtest.Database(t)}
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, l.dsn)))
	cfg, err := pgxpool.ParseConfig(l.dsn)
	require.NoError(t, err)
	var tr tracer
	cfg.ConnConfig.Tracer = &tr
	l.pool, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(l.pool.Close)
	l.hub, l.s = processOn(t, l.pool, stream.Config{})

	tr.panics.Store(true)
	err = l.s.Publish(t.Context(), "a", nil, 1)
	require.ErrorIs(t, err, pghub.ErrPanic)
	require.ErrorIs(t, err, pghub.ErrUnknownOutcome)
	require.NoError(t, l.s.Publish(t.Context(), "a", nil, 2))
	require.Equal(t, []string{"a 2"}, l.values(1))
}

func TestStopWaitsForWhatIsPublished(t *testing.T) {
	l := newLab(t, stream.Config{})
	open := l.jam()
	first := l.publishing(t.Context(), 1, 0)
	second := l.publishing(t.Context(), 2, 1)
	stopped := make(chan error, 1)
	go func() { stopped <- l.hub.Stop(context.WithoutCancel(t.Context())) }()
	eventually(t, "nothing more is taken", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return errors.Is(l.s.Publish(ctx, "late", nil, 3), pghub.ErrStopped)
	})
	open()
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	require.NoError(t, <-stopped)
	require.Equal(t, int64(2), one[int64](l, `SELECT count(*) FROM pghub.log WHERE topic = 'a'`))
}
