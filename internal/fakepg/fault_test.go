package fakepg

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRefuseDials(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		start := time.Now()
		s.RefuseDials(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
		_, err := pgx.ConnectConfig(t.Context(), s.Config())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		s.RefuseDials(nil)
		connect(t, s)
		assert.Equal(t, []time.Time{start, start}, s.Dials())
		assert.Equal(t, 1, s.Sessions())
	})
}

func TestHangDials(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		s.HangDials(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := pgx.ConnectConfig(ctx, s.Config())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(start))

		done := make(chan error, 1)
		dial := func() {
			_, err := pgx.ConnectConfig(context.Background(), s.Config())
			done <- err
		}
		go dial()
		require.True(t, isPending(done))
		s.HangDials(false)
		require.NoError(t, <-done)

		s.HangDials(true)
		go dial()
		require.True(t, isPending(done))
		s.Close()
		require.ErrorIs(t, <-done, syscall.ECONNREFUSED)
		assert.Len(t, s.Dials(), 3)
	})
}

func TestFailStartup(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		for _, code := range []string{"28P01", "57P03", "53300"} {
			s.FailStartup(&pgproto3.ErrorResponse{Code: code, Message: "no"})
			_, err := pgx.ConnectConfig(t.Context(), s.Config())
			requireCode(t, err, code)
		}
		s.FailStartup(nil)
		cfg := s.Config()
		cfg.RuntimeParams["application_name"] = "pghub"
		_, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		require.Len(t, s.StartupParams(), 4)
		assert.Equal(t, "pghub", s.StartupParams()[3]["application_name"])
		assert.Equal(t, "user", s.StartupParams()[3]["user"])
		assert.Equal(t, 1, s.Sessions())
	})
}

func TestKill(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		idle, waiting := connect(t, s), connect(t, s)
		mustExec(t, idle, `LISTEN "a"`)
		done := make(chan error, 1)
		go func() {
			_, err := waiting.WaitForNotification(context.Background())
			done <- err
		}()
		require.True(t, isPending(done))
		s.Kill()
		require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
		_, err := exec(idle, "")
		require.Error(t, err)
		assert.Zero(t, s.Sessions())
		assert.Empty(t, s.Listening())
		mustExec(t, connect(t, s), "")
	})
}

func TestTerminate(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		mustExec(t, conn, `LISTEN "a"`)
		s.Notify("a", "before")
		s.Terminate()
		assert.Zero(t, s.Sessions())
		s.Notify("a", "after")
		requireNotification(t, conn, "a", "before")
		_, err := conn.WaitForNotification(t.Context())
		requireCode(t, err, "57P01")
	})
}

func TestFreeze(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		mustExec(t, conn, `LISTEN "a"`)
		s.Freeze(true)
		s.Notify("a", "1")
		done := startExec(conn, `LISTEN "b"`)
		require.True(t, isPending(done))
		assert.Equal(t, []string{"a"}, s.Listening())
		assert.Len(t, s.Queries(), 2, "the query has arrived")

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := pgx.ConnectConfig(ctx, s.Config())
		require.ErrorIs(t, err, context.DeadlineExceeded, "the start-up waits too")

		s.Freeze(false)
		require.NoError(t, <-done)
		assert.Equal(t, []string{"a", "b"}, s.Listening())
		requireNotification(t, conn, "a", "1")
	})
}

func TestFreezeAndProbe(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		s.Freeze(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, conn.Ping(ctx), context.DeadlineExceeded)
		assert.Equal(t, 5*time.Second, time.Since(start))
		<-conn.PgConn().CleanupDone() // pgx asks for a cancellation, which hangs too
		assert.Len(t, s.Dials(), 1, "that is no attempt to connect")
	})
}

func TestHold(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn, other := connect(t, s), connect(t, s)
		mustExec(t, conn, `LISTEN "a"`)
		release := s.Hold(containing(`LISTEN "b"`))
		second := s.Hold(containing(`LISTEN "b"`))

		done := startExec(conn, `LISTEN "b"`)
		mustExec(t, other, `LISTEN "c"`)
		assert.Equal(t, []string{"a", "c"}, s.Listening())
		s.Notify("a", "meanwhile")
		s.Notify("b", "too early")
		release()
		release()
		require.True(t, isPending(done))
		second()
		require.NoError(t, <-done)
		assert.Equal(t, []string{"a", "b", "c"}, s.Listening())
		s.Notify("b", "in time")
		requireNotification(t, conn, "a", "meanwhile")
		requireNotification(t, conn, "b", "in time")
		mustExec(t, other, `LISTEN "b"`)
	})
}

func TestHoldKeepsTheOrder(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		hijacked, err := connect(t, s).PgConn().Hijack()
		require.NoError(t, err)
		release := s.Hold(containing("b"))
		for _, sql := range []string{`LISTEN a`, `LISTEN b`, `UNLISTEN a`} {
			hijacked.Frontend.Send(&pgproto3.Query{String: sql})
		}
		require.NoError(t, hijacked.Frontend.Flush())
		synctest.Wait()
		assert.Equal(t, []string{"a"}, s.Listening())
		release()
		synctest.Wait()
		assert.Equal(t, []string{"b"}, s.Listening())
	})
}

func TestHoldBehindFreeze(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		s.Freeze(true)
		done := startExec(conn, `LISTEN "a"`)
		release := s.Hold(containing("LISTEN"))
		s.Freeze(false)
		require.True(t, isPending(done))
		s.Freeze(true)
		release()
		require.True(t, isPending(done))
		s.Freeze(false)
		require.NoError(t, <-done)
	})
}

func TestEndsWhileHeldOrFrozen(t *testing.T) {
	for name, end := range map[string]func(*Server){
		"kill":      (*Server).Kill,
		"terminate": (*Server).Terminate,
		"close":     (*Server).Close,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, s *Server) {
				s.Hold(containing("LISTEN"))
				done := startExec(connect(t, s), `LISTEN "a"`)
				end(s)
				require.Error(t, <-done)
			})
			run(t, func(t *testing.T, s *Server) {
				conn := connect(t, s)
				s.Freeze(true)
				done := startExec(conn, `LISTEN "a"`)
				end(s)
				synctest.Wait()
				s.Freeze(false)
				require.Error(t, <-done)
			})
		})
	}
}

func TestSend(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		s.Send(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
			&pgproto3.NotificationResponse{PID: 7, Channel: "unasked", Payload: "x"})
		requireNotification(t, conn, "unasked", "x")
		assert.Equal(t, "UTC", conn.PgConn().ParameterStatus("TimeZone"))

		s.SendRaw([]byte("?\x00\x00\x00\x01garbage"))
		_, err := conn.WaitForNotification(t.Context())
		require.Error(t, err)
	})
}

func TestClientCloses(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		polite, rude := connect(t, s), connect(t, s)
		require.NoError(t, polite.Close(t.Context()))
		synctest.Wait()
		assert.Equal(t, 1, s.Sessions())
		require.NoError(t, rude.PgConn().Conn().Close())
		synctest.Wait()
		assert.Zero(t, s.Sessions())
	})
}

func TestClose(t *testing.T) {
	run(t, func(t *testing.T, s *Server) {
		conn := connect(t, s)
		s.Close()
		s.Close()
		_, err := exec(conn, "")
		require.Error(t, err)
		_, err = pgx.ConnectConfig(t.Context(), s.Config())
		require.True(t, errors.Is(err, syscall.ECONNREFUSED), "got %v", err)
	})
}
