package fakepg

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// run runs a test with a server of its own, inside a bubble. The bubble fails the test if Close leaves a goroutine.
func run(t *testing.T, test func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		defer s.Close()
		test(t, s)
	})
}

func connect(t *testing.T, s *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), s.Config())
	require.NoError(t, err)
	return conn
}

// exec runs a simple query.
func exec(conn *pgx.Conn, sql string) ([]*pgconn.Result, error) {
	return conn.PgConn().Exec(context.Background(), sql).ReadAll()
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string) []*pgconn.Result {
	t.Helper()
	results, err := exec(conn, sql)
	require.NoError(t, err)
	return results
}

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, code, pgErr.Code)
}

func requireNotification(t *testing.T, conn *pgx.Conn, channel, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	require.NoError(t, err)
	require.Equal(t, channel, n.Channel)
	require.Equal(t, payload, n.Payload)
}

// startExec runs a simple query in the background.
func startExec(conn *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := exec(conn, sql)
		done <- err
	}()
	synctest.Wait()
	return done
}

func isPending(done <-chan error) bool {
	synctest.Wait()
	return len(done) == 0
}

func containing(part string) func(string) bool {
	return func(sql string) bool { return strings.Contains(sql, part) }
}

func TestListenAndNotify(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		names := []string{"a", "B", `q"q`, "semi;colon", "it's", "-- no comment", "été", "new\nline"}
		var sql strings.Builder
		for _, name := range names {
			fmt.Fprintf(&sql, "LISTEN %s; ", pgx.Identifier{name}.Sanitize())
		}
		assert.Len(t, mustExec(t, conn, sql.String()), len(names))
		assert.ElementsMatch(t, names, s.Listening())

		for i := range 1000 { // far more than the client reads meanwhile
			s.Notify(names[i%len(names)], fmt.Sprint(i))
		}
		s.Notify("nobody", "lost")
		for i := range 1000 {
			requireNotification(t, conn, names[i%len(names)], fmt.Sprint(i))
		}

		mustExec(t, conn, `UNLISTEN "a"; LISTEN Folded`)
		assert.NotContains(t, s.Listening(), "a")
		assert.Contains(t, s.Listening(), "folded")
		mustExec(t, conn, `UNLISTEN *`)
		assert.Empty(t, s.Listening())
	})
}

func TestNotifyFromAClient(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		listener, sender := connect(t, s), connect(t, s)
		mustExec(t, listener, `LISTEN "x"`)
		mustExec(t, sender, `SELECT pg_notify('x', 'it''s'); NOTIFY x; NOTIFY "x", 'bye'`)
		requireNotification(t, listener, "x", "it's")
		requireNotification(t, listener, "x", "")
		requireNotification(t, listener, "x", "bye")
		_, err := sender.Exec(t.Context(), "SELECT pg_notify($1, $2)", pgx.QueryExecModeSimpleProtocol, "x", "arguments")
		require.NoError(t, err)
		requireNotification(t, listener, "x", "arguments")
	})
}

func TestCheckAndProbes(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		const check = `SELECT pg_is_in_recovery(), pg_backend_pid(),
			CASE WHEN current_setting('idle_session_timeout', true) <> '0' THEN set_config('idle_session_timeout', '0', false) END`
		conn := connect(t, s)
		pid := conn.PgConn().PID()
		row := func() [][]byte { return mustExec(t, conn, check)[0].Rows[0] }
		assert.Equal(t, [][]byte{[]byte("f"), fmt.Append(nil, pid), []byte("0")}, row())
		s.SetStandby(true)
		s.SetBackendPID(func(keyPID uint32) uint32 { return keyPID + 1 })
		assert.Equal(t, [][]byte{[]byte("t"), fmt.Append(nil, pid+1), []byte("0")}, row())

		assert.Len(t, mustExec(t, conn, ""), 1)
		require.NoError(t, conn.Ping(t.Context()))
		assert.Equal(t, "1", string(mustExec(t, conn, "SELECT 1")[0].Rows[0][0]))
		assert.Equal(t, []string{check, check, "", "-- ping", "SELECT 1"}, s.Queries())
	})
}

func TestStandby(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		s.SetStandby(true)
		conn := connect(t, s)
		_, err := exec(conn, `LISTEN "a"`)
		requireCode(t, err, "25006")
		mustExec(t, conn, `UNLISTEN *`)
		assert.Equal(t, "on", conn.PgConn().ParameterStatus("in_hot_standby"))

		cfg := s.Config()
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		_, err = pgx.ConnectConfig(t.Context(), cfg)
		require.Error(t, err)

		s.SetStandby(false)
		mustExec(t, conn, `LISTEN "a"`)
		_, err = pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
	})
}

func TestDeaf(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		s.SetDeaf(true)
		mustExec(t, conn, `LISTEN "a"`)
		s.Notify("a", "lost")
		s.SetDeaf(false)
		s.Notify("a", "found")
		requireNotification(t, conn, "a", "found")
	})
}

func TestRefuseQuery(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		mustExec(t, conn, `LISTEN "old"`)
		s.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if !strings.Contains(sql, "bad") {
				return nil
			}
			s.Notify("old", "from inside")
			return &pgproto3.ErrorResponse{Code: "42501", Message: "no"}
		})
		_, err := exec(conn, `LISTEN "good"; LISTEN "bad"; UNLISTEN "old"`)
		requireCode(t, err, "42501")
		assert.Equal(t, []string{"old"}, s.Listening())
		requireNotification(t, conn, "old", "from inside")
		mustExec(t, conn, `LISTEN "good"`)

		s.RefuseQuery(func(string) *pgproto3.ErrorResponse {
			return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "22P05"}
		})
		_, err = exec(conn, "")
		requireCode(t, err, "22P05")
		synctest.Wait()
		assert.Zero(t, s.Sessions())
		s.RefuseQuery(nil)
		mustExec(t, connect(t, s), "")
	})
}

func TestErrorsUndoTheWholeQuery(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		for sql, code := range map[string]string{
			`LISTEN "a"; LISTEN ""`:              "42601",
			`LISTEN "a"; LISTEN`:                 "42601",
			`LISTEN "a"; LISTEN 'b'`:             "42601",
			`LISTEN "a"; LISTEN "b" "c"`:         "42601",
			`LISTEN "a"; SELECT now()`:           "0A000",
			`LISTEN "a"; NOTIFY a; DROP TABLE x`: "0A000",
		} {
			_, err := exec(conn, sql)
			requireCode(t, err, code)
			assert.Empty(t, s.Listening(), sql)
		}
		_, err := conn.Exec(t.Context(), "SELECT $1", "extended protocol")
		requireCode(t, err, "0A000")
		mustExec(t, conn, "SELECT 1")
	})
}

func TestPipelinedQueries(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		hijacked, err := connect(t, s).PgConn().Hijack()
		require.NoError(t, err)
		for _, sql := range []string{`LISTEN "a"`, "nonsense", "", "SELECT 1"} {
			hijacked.Frontend.Send(&pgproto3.Query{String: sql})
		}
		require.NoError(t, hijacked.Frontend.Flush())
		var got []string
		for len(got) < 10 {
			msg, err := hijacked.Frontend.Receive()
			require.NoError(t, err)
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", msg), "*pgproto3."))
		}
		assert.Equal(t, []string{
			"CommandComplete", "ReadyForQuery", "ErrorResponse", "ReadyForQuery", "EmptyQueryResponse", "ReadyForQuery",
			"RowDescription", "DataRow", "CommandComplete", "ReadyForQuery",
		}, got)
	})
}

func TestWaitQuery(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		mustExec(t, conn, `LISTEN "a"`)
		go exec(conn, `UNLISTEN "a"`)
		sql, err := s.WaitQuery(t.Context(), containing("UNLISTEN"))
		require.NoError(t, err)
		assert.Equal(t, `UNLISTEN "a"`, sql)
		sql, err = s.WaitQuery(t.Context(), containing("LISTEN"))
		require.NoError(t, err)
		assert.Equal(t, `LISTEN "a"`, sql)

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err = s.WaitQuery(ctx, containing("never"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestOutsideABubble(t *testing.T) {
	s := New()
	defer s.Close()
	conn := connect(t, s)
	mustExec(t, conn, `LISTEN "a"`)
	s.Notify("a", "hello")
	requireNotification(t, conn, "a", "hello")
	require.NoError(t, conn.Close(t.Context()))
}
