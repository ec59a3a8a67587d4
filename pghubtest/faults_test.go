package pghubtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/pghubtest"
)

func TestDisconnect(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		seen, other := consume(t, srv.Hub(), "a"), consume(t, srv.NewHub(pghub.Config{Name: "other"}), "a")
		require.NoError(t, srv.Hub().Notify(t.Context(), "a", nil, nil)) // with a connection of the pool
		kept := srv.Published()[0].PID
		for range 5 {
			srv.Notify("a", "e:0")
			srv.Disconnect()
			srv.AwaitListen("a")
			srv.Notify("b", "to nobody")
		}
		require.NoError(t, srv.Hub().Notify(t.Context(), "a", nil, 1))
		require.Equal(t, kept, srv.Published()[1].PID, "the pool's connections go on")
		for _, l := range []*log{seen, other} {
			require.Equal(t, []string{"subscribe", "a e", "a e:0", "disconnect", "reconnect"}, l.next(t, 5))
		}
	})
}

func TestDown(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		seen := consume(t, hub, "a")
		srv.Down()
		require.Equal(t, []string{"subscribe", "disconnect"}, seen.next(t, 2))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.ErrorIs(t, hub.Notify(ctx, "a", nil, nil), pghub.ErrNotConnected)
		srv.Up()
		require.Equal(t, []string{"reconnect"}, seen.next(t, 1))
		require.NoError(t, hub.Notify(t.Context(), "a", nil, nil))
		require.Equal(t, []string{"a e"}, seen.next(t, 1))
	})
}

// However long a server was away, a hub that says nothing of its backoff comes back at once.
func TestBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		seen := consume(t, srv.NewHub(pghub.Config{}), "a")
		srv.Down()
		time.Sleep(time.Minute)
		srv.Up()
		begun := time.Now()
		require.Equal(t, []string{"subscribe", "disconnect", "reconnect"}, seen.next(t, 3))
		require.LessOrEqual(t, time.Since(begun), srv.Config().ReconnectMax)
	})
}

// A silent server is found out by the probe; in a bubble that takes no time.
func TestStallAndHalfOpen(t *testing.T) {
	for name, silence := range map[string]func(*pghubtest.Server){"Stall": (*pghubtest.Server).Stall, "HalfOpen": (*pghubtest.Server).HalfOpen} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := pghubtest.New(t)
				hub := srv.Hub()
				seen := consume(t, hub, "a")
				require.NoError(t, hub.Notify(t.Context(), "a", nil, nil))
				silence(srv)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				require.ErrorIs(t, hub.Notify(ctx, "a", nil, 1), pghub.ErrUnknownOutcome)
				time.Sleep(time.Minute)
				if name == "HalfOpen" {
					require.Equal(t, pghub.StateListening, hub.State())
				} else {
					require.NotEqual(t, pghub.StateListening, hub.State())
				}
				srv.Resume()
				srv.AwaitListen("a")
				require.NoError(t, hub.Notify(t.Context(), "a", nil, 2))
				lines := seen.next(t, 5)
				require.Equal(t, []string{"subscribe", "a e", "disconnect", "reconnect", "a e:2"}, lines)
			})
		})
	}
}

func TestRefuse(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		c, err := hub.Consumer(t.Context(), newLog().handle, nil)
		require.NoError(t, err)
		srv.Refuse(func(sql string) error {
			switch sql {
			case `LISTEN "a"`:
				return &pgconn.PgError{Code: "42501", Message: "not you"}
			case `SELECT 1`:
				return &pgconn.PgError{Severity: "FATAL", Code: "57P01"}
			case `SELECT pg_backend_pid()`:
				return errors.New("any other")
			}
			return nil
		})
		var listen *pghub.ListenError
		require.ErrorAs(t, c.Subscribe(t.Context(), "a"), &listen)
		requireCode(t, listen, "42501")
		_, err = srv.Pool().Exec(t.Context(), "SELECT 1")
		requireCode(t, err, "57P01")
		_, err = srv.Pool().Exec(t.Context(), "SELECT pg_backend_pid()")
		requireCode(t, err, "XX000")
		srv.Refuse(nil)
		require.NoError(t, c.Subscribe(t.Context(), "a"))
		_, err = srv.Pool().Exec(t.Context(), "SELECT 1")
		require.NoError(t, err)

		srv.RefuseConnect(&pgconn.PgError{Code: "53300", Message: "too many"})
		_, err = pgx.ConnectConfig(t.Context(), srv.ConnConfig())
		requireCode(t, err, "53300")
		srv.RefuseConnect(nil)
		conn, err := pgx.ConnectConfig(t.Context(), srv.ConnConfig())
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	})
}

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, code, pgErr.Code)
}
