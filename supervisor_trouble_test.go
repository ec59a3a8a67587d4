package pghub

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestARefusedChannelKeepsNobodyElseFromListening(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		w, _ := watch(t, hub, "bad", "good", "other")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("bad"), lineSubscribe("good"), lineSubscribe("other"))

		server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if strings.Contains(sql, `"bad"`) {
				return &pgproto3.ErrorResponse{Code: "22P05", Message: "no equivalent"}
			}
			return nil
		})
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		require.Equal(t, []string{"good", "other"}, server.Listening())
		err := errs.await(t, func(err error) bool { return errors.As(err, new(*ListenError)) })
		require.EqualError(t, err, `pghub: LISTEN on topic "bad" refused: ERROR: no equivalent (SQLSTATE 22P05)`)
		server.Notify("good", "e1")
		w.expect(t, "good e1")

		// It is asked for again from time to time, without another word about it, and announced once it is in effect.
		before := len(server.Queries())
		time.Sleep(3 * defaultReconnectMax)
		synctest.Wait()
		require.Equal(t, []string{`LISTEN "bad"`, `LISTEN "bad"`, `LISTEN "bad"`}, listensSince(server, before))
		server.RefuseQuery(nil)
		w.expect(t, lineSubscribe("bad"))
		server.Notify("bad", "e2")
		w.expect(t, "bad e2")
		refusals := 0
		for _, err := range errs.all() {
			if errors.As(err, new(*ListenError)) {
				refusals++
			}
		}
		require.Equal(t, 1, refusals)
	})
}

func TestAFatalAnswerIsALostConnection(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))

		server.Notify("a", "e1")
		server.Terminate()
		w.expect(t, "a e1")
		lost := w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		var pgErr *pgconn.PgError
		require.ErrorAs(t, lost.Advisory.Err, &pgErr)
		require.Equal(t, "57P01", pgErr.Code)
		w.expect(t, lineReconnect)

		// So it is where a statement is under way, and where the pooler that says it leaves one field out.
		server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if sql != probeSQL {
				return nil
			}
			server.RefuseQuery(nil)
			return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P05", Message: "idle"}
		})
		lost = w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		require.ErrorAs(t, lost.Advisory.Err, &pgErr)
		require.Equal(t, "57P05", pgErr.Code)
		w.expect(t, lineReconnect)
	})
}

func TestAServerThatMakesNoSenseIsLeft(t *testing.T) {
	for name, sent := range map[string][]pgproto3.BackendMessage{
		"an answer to nothing":   {&pgproto3.ReadyForQuery{TxStatus: 'I'}},
		"an error about nothing": {&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: "?"}},
		"a message out of place": {&pgproto3.CopyInResponse{}},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				startHub(t, hub)
				server.Send(sent...)
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
			})
		})
	}
	t.Run("no protocol at all", func(t *testing.T) {
		onFake(t, func(t *testing.T, server *fakepg.Server) {
			hub := fakeHub(t, server, Config{})
			w, _ := watch(t, hub, "a")
			startHub(t, hub)
			server.SendRaw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
		})
	})
}

func TestNoticesAndParametersAreNoTrouble(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Send(&pgproto3.NoticeResponse{Severity: "WARNING", Message: "a word"}, &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"})
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
	})
}

// slowWriter returns from its first writes only after the server has answered.
type slowWriter struct {
	net.Conn
	writes atomic.Int64
}

func (c *slowWriter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.writes.Add(1) <= 3 {
		time.Sleep(100 * time.Millisecond)
	}
	return n, err
}

// pgx then reads in the background, and would take the answer to the first LISTEN from the session.
func TestASlowSocketIsHandedOverWhole(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		cfg := server.Config()
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := server.Dial(ctx, network, addr)
			return &slowWriter{Conn: conn}, err
		}
		hub := hubOf(t, Config{ListenConfig: cfg})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		server.Notify("a", "e1")
		w.expect(t, lineConnect, lineSubscribe("a"), "a e1")
		require.EqualValues(t, 1, hub.Stats().Attempts)
	})
}
