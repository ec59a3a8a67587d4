package pghub

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestASubscribeThatGivesUpIsUndone(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "had before")
		startHub(t, hub)
		release := server.Hold(mentions(`"b"`))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := c.Subscribe(ctx, "b", "c", "had before")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []string{"had before"}, c.Topics())
		release()
		synctest.Wait()
		require.Equal(t, []string{"had before"}, server.Listening())
		w.expect(t, lineConnect, lineSubscribe("had before"))
		require.Empty(t, w.rest())

		require.ErrorIs(t, c.Subscribe(ctx, "d"), context.DeadlineExceeded, "the context has ended before the call")
		require.Equal(t, []string{"had before"}, c.Topics())
	})
}

func TestTwoCallsThatWaitForOneTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub)
		startHub(t, hub)
		subscribe := func(patience time.Duration) <-chan error {
			return background(func() error {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				return c.Subscribe(ctx, "a")
			})
		}

		release := server.Hold(mentions("LISTEN"))
		first := subscribe(time.Second)
		synctest.Wait()
		second := subscribe(time.Hour)
		require.ErrorIs(t, outcome(t, first), context.DeadlineExceeded)
		require.Equal(t, []string{"a"}, c.Topics(), "the other one still wants it")
		release()
		require.NoError(t, outcome(t, second))
		w.expect(t, lineConnect, lineSubscribe("a"))
		require.NoError(t, c.Unsubscribe(within(t), "a"))

		release = server.Hold(mentions("LISTEN"))
		first = subscribe(time.Second)
		synctest.Wait()
		second = subscribe(2 * time.Second)
		require.ErrorIs(t, outcome(t, first), context.DeadlineExceeded)
		require.ErrorIs(t, outcome(t, second), context.DeadlineExceeded)
		require.Empty(t, c.Topics())
		release()
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.Empty(t, w.rest())
	})
}

func refuseListen(topic string) func(string) *pgproto3.ErrorResponse {
	return func(sql string) *pgproto3.ErrorResponse {
		if strings.Contains(sql, `LISTEN "`+topic+`"`) {
			return &pgproto3.ErrorResponse{Code: "22P05", Message: "no equivalent"}
		}
		return nil
	}
}

// The server refuses a statement whole. Who is refused learns it by name; who rode in the same statement does not notice.
func TestARefusedTopicFailsItsSubscribeOnly(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		server.RefuseQuery(refuseListen("bad"))
		release := server.Hold(mentions(`"in flight"`))
		calls := map[string]<-chan error{}
		for _, topic := range []string{"in flight", "b", "bad", "c"} {
			calls[topic] = background(func() error { return c.Subscribe(context.Background(), topic) })
			synctest.Wait()
		}
		calls["bad too"] = background(func() error { return c.Subscribe(context.Background(), "d", "bad") })
		synctest.Wait()
		release()
		for _, topic := range []string{"in flight", "b", "c"} {
			require.NoError(t, outcome(t, calls[topic]))
		}
		for _, topic := range []string{"bad", "bad too"} {
			err := outcome(t, calls[topic])
			require.EqualError(t, err, `pghub: subscribe: pghub: LISTEN on topic "bad" refused: ERROR: no equivalent (SQLSTATE 22P05)`)
			var refused *ListenError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "bad", refused.Topic)
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
		}
		require.Equal(t, []string{"a", "b", "c", "in flight"}, c.Topics())
		synctest.Wait()
		require.Equal(t, c.Topics(), server.Listening())
		require.NotContains(t, w.lines(), lineSubscribe("bad"))

		server.RefuseQuery(nil)
		time.Sleep(2 * defaultReconnectMax)
		require.Equal(t, c.Topics(), server.Listening(), "nobody asked for it again")
	})
}
