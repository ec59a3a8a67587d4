package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The application starts its hub, fetches, hears of a change, fetches again after a gap, and stops its hub.
func TestApplication(t *testing.T) {
	dsn := pgtest.Database(t)
	db := pgtest.Conn(t, dsn)
	exec := func(sql string) {
		_, err := db.Exec(pgtest.Within(t), sql)
		require.NoError(t, err)
	}
	said := make(chan string, 100)
	await := func(words ...string) {
		for _, word := range words {
			select {
			case got := <-said:
				require.Equal(t, word, got)
			case <-time.After(pgtest.Patience):
				require.FailNow(t, "waited in vain", word)
			}
		}
	}
	application := fx.New(app(dsn, func(s string) { said <- s }), fx.NopLogger, fx.StartTimeout(pgtest.Patience), fx.StopTimeout(pgtest.Patience))
	require.NoError(t, application.Start(pgtest.Within(t)))
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			require.NoError(t, application.Stop(pgtest.Within(t)))
		}
	})
	await("connect", "subscribe", "fetch all orders")
	exec(`NOTIFY orders, 'e7'`)
	await("order [7]")
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pghub:fx' AND datname = current_database()`)
	await("disconnect", "reconnect", "fetch all orders")
	exec(`NOTIFY orders, 'e8'`)
	await("order [8]")
	stopped = true
	require.NoError(t, application.Stop(pgtest.Within(t)))
	await("stop")
}

// Without a database the application does not start, and says why.
func TestNoDatabase(t *testing.T) {
	application := fx.New(app("postgres://u:secret@127.0.0.1:1/db", func(string) {}), fx.NopLogger)
	err := application.Start(pgtest.Within(t))
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), "secret")
	require.NoError(t, application.Stop(pgtest.Within(t)))
}
