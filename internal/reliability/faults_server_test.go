package reliability

import (
	"context"
	"fmt"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// TestFaultServerEnds: every way in which a server, or one of its processes, comes to an end or stops to answer.
func TestFaultServerEnds(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	for _, test := range []struct {
		name string
		hurt func(t *testing.T, pid int) (heal func())
		code string // of the loss, where the server says why
	}{
		{"terminated", func(t *testing.T, pid int) func() {
			runSQL(t, server.DSN(), "SELECT pg_terminate_backend($1)", pid)
			return nil
		}, "57P01"},
		{"stopped process", func(t *testing.T, pid int) func() {
			require.NoError(t, server.Signal(pid, pgtest.Freeze))
			return func() { _ = server.Signal(pid, pgtest.Thaw) } // it may have ended
		}, ""},
		{"killed process", func(t *testing.T, pid int) func() {
			require.NoError(t, server.Signal(pid, syscall.SIGKILL))
			return nil
		}, ""},
		{"restart, fast", func(t *testing.T, _ int) func() {
			require.NoError(t, server.Restart(t.Context(), pgtest.Fast))
			return nil
		}, "57P01"},
		{"restart, immediate", func(t *testing.T, _ int) func() {
			require.NoError(t, server.Restart(t.Context(), pgtest.Immediate))
			return nil
		}, ""},
		{"crash of the machine", func(t *testing.T, _ int) func() {
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(t.Context()))
			return nil
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			pgtest.CheckLeaks(t)
			pool := pgtest.Pool(t, server.DSN())
			hub, d := startFaultHub(t, pghub.Config{Pool: pool}, "t")
			d.expect(t, "connect", "subscribe t")
			heal := test.hurt(t, int(hub.Stats().PID))
			lost := d.await(t, "disconnect").Advisory
			if test.code != "" {
				require.Equal(t, test.code, sqlState(lost.Err))
			}
			if heal != nil {
				require.ErrorIs(t, lost.Err, pghub.ErrProbe)
				d.await(t, "reconnect") // beside the stopped process
				heal()
			} else {
				d.await(t, "reconnect")
			}
			conn := pgtest.Pool(t, server.DSN())
			publishUntil(t, d, conn, "t")
		})
	}
}

// TestFaultServerPassword: a wrong password ends Start and Run at once; one that is changed later does not end the hub,
// which comes back when it is let in again. Nothing shows a password.
func TestFaultServerPassword(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{HBA: "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256"})
	runSQL(t, server.DSN(), "CREATE ROLE someone LOGIN PASSWORD 'right-password'")
	as := func(password string) string {
		u, err := url.Parse(server.DSN())
		require.NoError(t, err)
		u.User = url.UserPassword("someone", password)
		return u.String()
	}

	for _, start := range []func(*pghub.Hub) error{
		func(h *pghub.Hub) error { return h.Start(t.Context()) },
		func(h *pghub.Hub) error { return h.Run(t.Context()) },
	} {
		hub, _ := newFaultHub(t, pghub.Config{ListenConfig: listenTo(t, as("wrong-password"))}, "t")
		err := start(hub)
		require.Equal(t, "28P01", sqlState(err))
		require.NotContains(t, err.Error(), "wrong-password")
		require.Equal(t, pghub.StateStopped, hub.State())
	}

	var log logLines
	tr := newTrouble()
	hub, d := startFaultHub(t, pghub.Config{ListenConfig: listenTo(t, as("right-password")), OnError: tr.note, Logger: log.logger()}, "t")
	runSQL(t, server.DSN(), "ALTER ROLE someone PASSWORD 'another-password'")
	runSQL(t, server.DSN(), "SELECT pg_terminate_backend($1)", hub.Stats().PID)
	d.await(t, "disconnect")
	err := tr.await(t, 3, hasCode("28P01"))
	require.NotContains(t, err.Error(), "right-password")
	runSQL(t, server.DSN(), "ALTER ROLE someone PASSWORD 'right-password'")
	d.await(t, "reconnect")
	publishUntil(t, d, pgtest.Pool(t, server.DSN()), "t")
	require.NotContains(t, log.text(), "right-password")
}

// TestFaultServerFull: Start says that the server is full, Run and a reconnection wait until it is not.
func TestFaultServerFull(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_connections": "6", "superuser_reserved_connections": "1", "max_wal_senders": "0"}})
	runSQL(t, server.DSN(), "CREATE ROLE someone LOGIN")
	dsn := func() string {
		u, err := url.Parse(server.DSN())
		require.NoError(t, err)
		u.User = url.User("someone")
		return u.String()
	}()
	fill := func() (empty func()) {
		var conns []*pgx.Conn
		for {
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				require.Equal(t, "53300", sqlState(err))
				break
			}
			conns = append(conns, conn)
		}
		return func() {
			for _, conn := range conns {
				require.NoError(t, conn.Close(t.Context()))
			}
		}
	}

	empty := fill()
	hub, _ := newFaultHub(t, pghub.Config{ListenConfig: listenTo(t, dsn)}, "t")
	require.Equal(t, "53300", sqlState(hub.Start(t.Context())))

	tr := newTrouble()
	patient, d := newFaultHub(t, pghub.Config{ListenConfig: listenTo(t, dsn), OnError: tr.note}, "t")
	ran := make(chan error, 1)
	go func() { ran <- patient.Run(context.Background()) }()
	tr.await(t, 3, hasCode("53300"))
	empty()
	d.expect(t, "connect", "subscribe t")

	runSQL(t, server.DSN(), "ALTER ROLE someone NOLOGIN") // so that the hub's place can be taken
	runSQL(t, server.DSN(), "SELECT pg_terminate_backend($1)", patient.Stats().PID)
	d.expect(t, "disconnect")
	tr.await(t, 1, hasCode("28000"))
	runSQL(t, server.DSN(), "ALTER ROLE someone LOGIN")
	d.expect(t, "reconnect")
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	require.NoError(t, patient.Stop(ctx))
	require.NoError(t, <-ran)
}

// TestFaultServerRefuses: what the server refuses for good at start, and what it refuses after it had been listening.
func TestFaultServerRefuses(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := pgtest.Database(t)
	database := listenTo(t, dsn).Database
	runSQL(t, server.DSN(), fmt.Sprintf("CREATE ROLE pghub_%s LOGIN", database))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, server.DSN())
		require.NoError(t, err)
		_, err = conn.Exec(ctx, fmt.Sprintf("DROP ROLE pghub_%s", database))
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	stranger := listenTo(t, dsn)
	stranger.User, stranger.Password = "pghub_"+database, ""

	runSQL(t, server.DSN(), fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", database))
	hub, _ := newFaultHub(t, pghub.Config{ListenConfig: stranger}, "t")
	require.Equal(t, "42501", sqlState(hub.Run(t.Context())), "a role without CONNECT")

	missing := listenTo(t, dsn)
	missing.Database = database + "_missing"
	hub, _ = newFaultHub(t, pghub.Config{ListenConfig: missing}, "t")
	require.Equal(t, "3D000", sqlState(hub.Run(t.Context())), "no such database")

	// A database that is dropped under the hub, and made again.
	dropped := listenTo(t, dsn)
	dropped.Database = database + "_dropped"
	runSQL(t, server.DSN(), "CREATE DATABASE "+dropped.Database+" TEMPLATE template0")
	tr := newTrouble()
	_, d := startFaultHub(t, pghub.Config{ListenConfig: dropped, OnError: tr.note}, "t")
	runSQL(t, server.DSN(), "DROP DATABASE "+dropped.Database+" WITH (FORCE)")
	d.await(t, "disconnect")
	tr.await(t, 2, hasCode("3D000"))
	runSQL(t, server.DSN(), "CREATE DATABASE "+dropped.Database+" TEMPLATE template0")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, server.DSN())
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "DROP DATABASE "+dropped.Database+" WITH (FORCE)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	d.await(t, "reconnect")
	publishUntil(t, d, pgtest.Pool(t, server.DSNFor(dropped.Database)), "t")
}

// TestFaultServerIdleTimeout: idle_session_timeout ends other idle sessions, not the listener.
func TestFaultServerIdleTimeout(t *testing.T) {
	if pgtest.Shared(t).Version() < 140000 {
		t.Skip("PostgreSQL 13 has no idle_session_timeout")
	}
	dsn := pgtest.Database(t)
	runSQL(t, dsn, fmt.Sprintf("ALTER DATABASE %s SET idle_session_timeout = '2s'", listenTo(t, dsn).Database))
	hub, d := startFaultHub(t, pghub.Config{ListenConfig: listenTo(t, dsn), ProbeInterval: -1}, "t")
	for range 3 { // other sessions come to their end one after another
		idle := pgtest.Conn(t, dsn)
		ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
		_, err := idle.WaitForNotification(ctx)
		cancel()
		require.Equal(t, "57P05", sqlState(err))
	}
	runSQL(t, dsn+"&idle_session_timeout=0", "NOTIFY t, 'e1'")
	d.expect(t, "connect", "subscribe t", "t=e1")
	require.Zero(t, hub.Stats().Reconnects)
}

// TestFaultServerPoolExhausted: connections that others hold make Notify answer that it is not connected, when its context
// ends, and do not keep Stop from coming to its end.
func TestFaultServerPoolExhausted(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn+"&pool_max_conns=1")
	hub, d := startFaultHub(t, pghub.Config{Pool: pool}, "t")
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = hub.Notify(ctx, "t", nil, nil)
	require.ErrorIs(t, err, pghub.ErrNotConnected)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, hub.Stop(t.Context()))
	d.expect(t, "connect", "subscribe t", "stop")
}
