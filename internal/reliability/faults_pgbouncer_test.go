package reliability

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// TestFaultPgBouncerTransaction: transaction pooling accepts LISTEN and delivers nothing. Start says so, and what to do.
func TestFaultPgBouncerTransaction(t *testing.T) {
	dsn := pgtest.Database(t)
	pooled := pgtest.PgBouncer(t, "transaction", dsn)
	pool := pgtest.Pool(t, pooled)

	deaf, _ := newFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Second, ProbeTimeout: time.Second}, "t")
	err := deaf.Start(t.Context())
	require.ErrorIs(t, err, pghub.ErrPooler)
	require.ErrorContains(t, err, "ListenConfig")
	deaf, _ = newFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Second, ProbeTimeout: time.Second}, "t")
	require.ErrorIs(t, deaf.Run(t.Context()), pghub.ErrPooler)

	// The advice works: publish through the pooler, listen past it.
	hub, d := startFaultHub(t, pghub.Config{Pool: pool, ListenConfig: listenTo(t, dsn)}, "t")
	require.NoError(t, hub.Notify(t.Context(), "t", []int64{1}, "é"))
	d.expect(t, "connect", "subscribe t", `t=e1:"é"`)
}

// TestFaultPgBouncerSession: with session pooling all is as without a pooler, the loss of the server connection behind it
// included.
func TestFaultPgBouncerSession(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, pgtest.PgBouncer(t, "session", dsn))
	hub, d := startFaultHub(t, pghub.Config{Pool: pool, ProbeInterval: time.Minute, ProbeTimeout: faultPatience}, "t", "u")
	require.NoError(t, hub.Notify(t.Context(), "t", nil, nil))
	d.expect(t, "connect", "subscribe t", "subscribe u", "t=e")

	runSQL(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
	lost := d.await(t, "disconnect").Advisory
	require.Error(t, lost.Err)
	d.expect(t, "reconnect")
	notifyUntilSent(t, hub, "u")
	d.expect(t, "u=e")
}

// notifyUntilSent calls Notify until it finds a connection: those of the pool may have been lost too.
func notifyUntilSent(t *testing.T, hub *pghub.Hub, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	for {
		err := hub.Notify(ctx, topic, nil, nil)
		if err == nil {
			return
		}
		require.True(t, errors.Is(err, pghub.ErrNotConnected) || errors.Is(err, pghub.ErrUnknownOutcome), err)
		require.NoError(t, ctx.Err())
	}
}
