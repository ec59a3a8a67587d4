package stream

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

// A stream that ends while its sequencer looks gives its lease up all the same: others need not wait for the lease to end.
func TestALookUnderWayIsFinished(t *testing.T) {
	pgtest.CheckLeaks(t)
	finish := finishTime
	finishTime = time.Minute
	t.Cleanup(func() { finishTime = finish })
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	s, err := Open(t.Context(), hub, Config{Lease: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = hub.Stop(context.Background()) })

	blocker, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer blocker.Release()
	scan := func(into any, query string) {
		t.Helper()
		require.NoError(t, blocker.QueryRow(t.Context(), query).Scan(into))
	}
	scan(new(any), `SELECT pg_advisory_lock(1885816930, 2)::text`) // a look needs it
	// A sequencer that sleeps does not look.
	_, err = blocker.Exec(t.Context(), `SELECT pghub.publish('a', 1)`)
	require.NoError(t, err)
	require.Eventually(t, func() (waits bool) {
		scan(&waits, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted)`)
		return waits
	}, time.Minute, time.Millisecond)

	stopped := make(chan error, 1)
	go func() { stopped <- hub.Stop(context.Background()) }()
	<-s.ctx.Done()
	scan(new(bool), `SELECT pg_advisory_unlock(1885816930, 2)`)
	require.NoError(t, <-stopped)
	var leases int
	scan(&leases, `SELECT count(*) FROM pghub.leases`)
	require.Zero(t, leases)
}

// takeOverLink is a link with a connection of its own, which nothing runs, and what it tells other processes.
func takeOverLink(t *testing.T) (l *link, dsn string, others *pgx.Conn) {
	t.Helper()
	dsn = pgtest.Database(t)
	others = pgtest.Conn(t, dsn)
	require.NoError(t, sql.Install(t.Context(), others))
	_, err := others.Exec(t.Context(), `LISTEN "pghub.stream"`)
	require.NoError(t, err)
	l = &link{s: &Stream{bus: newBus(), cfg: Config{Lease: time.Minute}}, conn: pgtest.Conn(t, dsn)}
	return l, dsn, others
}

// Readers look when another process has made a tick. Of a tick that this one makes they know, and its notification has them look at nothing.
// One that the sequencer before has made, and told nobody of, is none of this one's.
func TestWhichTicksReadersAreToldOf(t *testing.T) {
	l, _, _ := takeOverLink(t)
	told := func(what func()) bool {
		ticked := l.s.bus.nextTick()
		what()
		select {
		case <-ticked:
			return true
		default:
			return false
		}
	}
	hear := func(pid uint32) func() {
		return func() { l.heard(&pgconn.Notification{PID: pid, Channel: channelStream, Payload: "tick"}) }
	}
	own := l.conn.PgConn().PID()
	require.False(t, told(hear(own)))
	require.True(t, told(hear(own+1)))
	require.True(t, told(func() { require.NoError(t, l.takeOver(t.Context())) }))
}

// A sequencer has lost its connection, and the server is still making the tick that it asked for: nobody will be told of that one. Who takes over
// waits for it, and tells.
func TestATickUnderWayAtATakeover(t *testing.T) {
	l, dsn, others := takeOverLink(t)
	blocker, lost, watcher := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	do := func(conn *pgx.Conn, sql string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	do(blocker, `SELECT pghub.publish('a', 1)`)
	do(blocker, `SELECT pg_advisory_lock(1885816930, 2)`)
	waiting := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			var waiters int
			err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
				WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 2 AND NOT l.granted`).Scan(&waiters)
			return err == nil && waiters == n
		}, time.Minute, time.Millisecond)
	}
	made := make(chan error, 1)
	go func() {
		_, err := lost.Exec(t.Context(), `SELECT pghub.tick()`)
		made <- err
	}()
	waiting(1)
	before := l.s.bus.nextTick()
	took := make(chan error, 1)
	go func() { took <- l.takeOver(t.Context()) }()
	waiting(2)
	select {
	case <-before: // of what was made before, they hear at once
	default:
		require.FailNow(t, "own readers were not told")
	}
	after := l.s.bus.nextTick()
	do(blocker, `SELECT pg_advisory_unlock(1885816930, 2)`)
	require.NoError(t, <-made)
	require.NoError(t, <-took)
	select {
	case <-after:
	default:
		require.FailNow(t, "own readers were not told of the tick that was under way")
	}
	for range 2 { // so were the others
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := others.WaitForNotification(ctx)
		cancel()
		require.NoError(t, err)
	}
}
