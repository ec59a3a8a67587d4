package reliability

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// encodedDatabase makes a database in an encoding of its own on the shared server.
func encodedDatabase(t *testing.T, encoding string) string {
	t.Helper()
	server := pgtest.Shared(t)
	name := strings.ToLower("pghub_" + encoding)
	runSQL(t, server.DSN(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	runSQL(t, server.DSN(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'", name, encoding))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, server.DSN())
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	return server.DSNFor(name)
}

// TestFaultEncodingKills: a payload that the server cannot turn into UTF-8 makes it end every listener. The loss is
// announced, and what follows arrives.
func TestFaultEncodingKills(t *testing.T) {
	for _, test := range []struct{ encoding, code string }{
		{"SQL_ASCII", "22021"}, // bytes that are not UTF-8
		{"WIN1252", "22P05"},   // a byte that stands for nothing
	} {
		t.Run(test.encoding, func(t *testing.T) {
			dsn := encodedDatabase(t, test.encoding)
			tr := newTrouble()
			hub, d := startFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, dsn), OnError: tr.note}, "t")
			d.expect(t, "connect", "subscribe t")
			for n := range 3 {
				require.NoError(t, hub.Notify(t.Context(), "t", []int64{int64(n)}, nil))
				d.expect(t, fmt.Sprintf("t=e%d", n))
				runSQL(t, dsn, "SET client_encoding = '"+test.encoding+"'; SELECT pg_notify('t', E'\\x81')")
				lost := d.await(t, "disconnect").Advisory
				require.Equal(t, test.code, sqlState(lost.Err))
				tr.await(t, n+1, hasCode(test.code))
				d.expect(t, "reconnect")
			}
			require.NoError(t, hub.Notify(t.Context(), "t", nil, "é"))
			d.expect(t, `t=e:"é"`)
		})
	}
}

// TestFaultEncodingLatin1: in a database in LATIN1 everything that LATIN1 has goes through; for the rest the server refuses
// the one who asks, and nobody else.
func TestFaultEncodingLatin1(t *testing.T) {
	dsn := encodedDatabase(t, "LATIN1")
	hub, d := startFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, dsn)}, "t")
	c, err := hub.Consumer(context.Background(), d.handle, nil)
	require.NoError(t, err)
	d.expect(t, "connect", "subscribe t")

	require.NoError(t, c.Subscribe(t.Context(), "été"))
	d.expect(t, "subscribe été")
	pool := pgtest.Pool(t, dsn)
	require.NoError(t, hub.Notify(t.Context(), "été", nil, "déjà vu"))
	d.expect(t, `été=e:"déjà vu"`)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return hub.NotifyTx(t.Context(), tx, "été", nil, "à bientôt")
	}))
	d.expect(t, `été=e:"à bientôt"`)

	var refused *pghub.ListenError
	require.ErrorAs(t, c.Subscribe(t.Context(), "t", "日本"), &refused)
	require.Equal(t, "日本", refused.Topic)
	require.Equal(t, "22P05", sqlState(refused))
	require.Equal(t, []string{"été"}, c.Topics())

	require.Equal(t, "22P05", sqlState(hub.Notify(t.Context(), "t", nil, "日本")))
	require.NoError(t, hub.Notify(t.Context(), "t", nil, 1))
	d.await(t, "t=e:1")
	require.Zero(t, hub.Stats().Reconnects)
}

// TestFaultEncodingRefusedAtStart: a topic recorded before Start that the server refuses is the reason why there is none.
func TestFaultEncodingRefusedAtStart(t *testing.T) {
	dsn := encodedDatabase(t, "LATIN1")
	for _, start := range []func(*pghub.Hub) error{
		func(h *pghub.Hub) error { return h.Start(t.Context()) },
		func(h *pghub.Hub) error { return h.Run(t.Context()) },
	} {
		hub, d := newFaultHub(t, pghub.Config{ListenConfig: listenTo(t, dsn)}, "a", "日本", "z")
		var refused *pghub.ListenError
		require.ErrorAs(t, start(hub), &refused)
		require.Equal(t, "日本", refused.Topic)
		d.expect(t, "stop")
	}
}
