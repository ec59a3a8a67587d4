package pgtest

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestStopStartKill(t *testing.T) {
	server := Private(t, Options{Settings: map[string]string{"max_connections": "20"}})
	require.True(t, server.Managed())
	require.DirExists(t, server.Dir())
	require.FileExists(t, server.LogFile())
	require.Equal(t, "20", value[string](t, server.DSN(), "SHOW max_connections"))
	require.Equal(t, server.Version()/10000, value[int](t, server.DSN(), "SELECT current_setting('server_version_num')::int/10000"))
	require.ErrorContains(t, server.Start(t.Context()), "already running")
	dsn := server.DSN()

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 7 AS n")
	require.NoError(t, err)

	// Fast and Immediate disconnect, Smart has nobody to wait for.
	for _, mode := range []StopMode{Fast, Immediate, Smart} {
		require.NoError(t, server.Stop(mode))
		require.NoError(t, server.Stop(mode), "stopped already")
		require.Error(t, conn.Ping(t.Context()))
		_, err = pgx.Connect(t.Context(), dsn)
		require.Error(t, err)
		require.NoError(t, server.Start(t.Context()))
		require.Equal(t, 7, value[int](t, dsn, "SELECT n FROM kept"))
	}

	conn, err = pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, server.Signal(int(conn.PgConn().PID()), Freeze))
	require.NoError(t, server.Kill())
	require.NoError(t, server.Kill(), "killed already")
	require.Error(t, conn.Ping(t.Context()))
	require.NoFileExists(t, server.Dir()+"/postmaster.pid")
	require.Error(t, server.Reload())
	require.NoError(t, server.Start(t.Context()))
	require.Equal(t, 7, value[int](t, dsn, "SELECT n FROM kept"))
	require.NoError(t, server.Restart(t.Context(), Fast))
	require.Equal(t, 7, value[int](t, dsn, "SELECT n FROM kept"))

	folder := server.local.folder.path
	require.NoError(t, server.Close())
	require.NoError(t, server.Close(), "closed already")
	require.NoDirExists(t, folder)
}

func TestEnv(t *testing.T) {
	server := Private(t, Options{Env: []string{"PGHUB_PGTEST=here"}})
	for range 2 {
		conn := Conn(t, server.DSN())
		_, err := conn.Exec(t.Context(), "CREATE TEMP TABLE env (v text)")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "COPY env FROM PROGRAM 'printenv PGHUB_PGTEST'")
		require.NoError(t, err)
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT v FROM env").Scan(&got))
		require.Equal(t, "here", got)
		require.NoError(t, conn.Close(t.Context()))
		require.NoError(t, server.Restart(t.Context(), Fast))
	}
}

func TestSignalBackend(t *testing.T) {
	server := Private(t, Options{})
	conn := Conn(t, server.DSN())
	pid := int(conn.PgConn().PID())

	require.NoError(t, server.Signal(pid, Freeze))
	answer := make(chan error, 1)
	go func() { answer <- conn.Ping(context.Background()) }()
	select {
	case err := <-answer:
		t.Fatalf("a stopped backend answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, server.Signal(pid, Thaw))
	require.NoError(t, <-answer)

	require.ErrorContains(t, server.Signal(os.Getpid(), Thaw), "not a process of this server")
}

// Close lets a stopped backend go on, so that the server need not wait 5 seconds before it kills it.
func TestCloseWithStoppedBackend(t *testing.T) {
	server := Private(t, Options{})
	log, err := os.Open(server.LogFile()) // can be read after it is removed
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close()) }()
	conn := Conn(t, server.DSN())
	require.NoError(t, server.Signal(int(conn.PgConn().PID()), Freeze))
	require.NoError(t, server.Close())
	text, err := io.ReadAll(log)
	require.NoError(t, err)
	require.Contains(t, string(text), "immediate shutdown request")
	require.NotContains(t, string(text), "SIGKILL")
}

func TestReload(t *testing.T) {
	server := Private(t, Options{})
	_, err := Conn(t, server.DSN()).Exec(t.Context(), "ALTER SYSTEM SET work_mem = '5MB'")
	require.NoError(t, err)
	require.NoError(t, server.Reload())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, poll(ctx, func() (bool, error) {
		return value[string](t, server.DSN(), "SHOW work_mem") == "5MB", nil
	}))
}

func TestPasswordAndEncoding(t *testing.T) {
	server := Private(t, Options{
		HBA:      "host all all all scram-sha-256",
		InitArgs: []string{"-E", "LATIN1"},
	})
	require.Equal(t, "LATIN1", value[string](t, server.DSN(), "SHOW server_encoding"))
	_, err := pgx.Connect(t.Context(), strings.Replace(server.DSN(), "postgres:postgres@", "postgres:wrong@", 1))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "28P01", refused.Code)
}

func TestEncryption(t *testing.T) {
	cert, key := certificate(t)
	server := Private(t, Options{HBA: "hostssl all all all trust", TLS: &TLS{Cert: cert, Key: key}})
	const encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	require.True(t, value[bool](t, server.DSN(), encrypted))
	_, err := pgx.Connect(t.Context(), strings.Replace(server.DSN(), "sslmode=prefer", "sslmode=disable", 1))
	require.Error(t, err)
}

func TestStandbyAndPromote(t *testing.T) {
	primary := Private(t, Options{})
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	require.NotEqual(t, primary.DSN(), standby.DSN())
	require.True(t, value[bool](t, standby.DSN(), "SELECT pg_is_in_recovery()"))

	_, err = Conn(t, primary.DSN()).Exec(t.Context(), "CREATE TABLE followed AS SELECT 1 AS n")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, poll(ctx, func() (bool, error) {
		return value[bool](t, standby.DSN(), "SELECT to_regclass('followed') IS NOT NULL"), nil
	}))

	require.NoError(t, primary.Kill())
	require.NoError(t, standby.Promote(t.Context()))
	_, err = Conn(t, standby.DSN()).Exec(t.Context(), "INSERT INTO followed VALUES (2)")
	require.NoError(t, err)
}

func TestTakenPort(t *testing.T) {
	first, second := Private(t, Options{}), Private(t, Options{})
	require.NoError(t, second.Stop(Fast))
	second.local.port = first.local.port
	require.ErrorIs(t, second.Start(t.Context()), errPortTaken)
}

func TestUnmanaged(t *testing.T) {
	shared := Shared(t)
	server, err := attach(t.Context(), shared.DSN(), nil)
	require.NoError(t, err)
	require.False(t, server.Managed())
	require.Equal(t, shared.Version(), server.Version())
	require.Empty(t, server.Dir())
	require.Empty(t, server.LogFile())
	for _, err := range []error{
		server.Stop(Fast), server.Kill(), server.Start(t.Context()), server.Restart(t.Context(), Fast),
		server.Signal(1, Thaw), server.Reload(), server.Promote(t.Context()),
	} {
		require.ErrorIs(t, err, ErrNotManaged)
	}
	_, err = server.Standby(t.Context())
	require.ErrorIs(t, err, ErrNotManaged)
	require.NoError(t, server.Close())
	require.Equal(t, 1, value[int](t, shared.DSN(), "SELECT 1"), "it goes on")
}

func TestOpenTakesDSN(t *testing.T) {
	t.Setenv(envDSN, Shared(t).DSN())
	server, err := Open(t.Context())
	require.NoError(t, err)
	require.False(t, server.Managed())
	require.Equal(t, Shared(t).DSN(), server.DSN())
}
