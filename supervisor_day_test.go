package pghub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// After a day of every kind of trouble the stream has announced each gap, and the hub listens to what is wanted.
func TestADayOfOutages(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		heal := func() {
			server.RefuseDials(nil)
			server.HangDials(false)
			server.Freeze(false)
			server.FailStartup(nil)
			server.RefuseQuery(nil)
			server.SetStandby(false)
		}
		troubles := []func(){
			func() { server.RefuseDials(errRefusedByTest); server.Kill() },
			func() { server.HangDials(true); server.Kill() },
			func() { server.Freeze(true) },
			func() {
				server.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "starting up"})
				server.Terminate()
			},
			func() { server.SetStandby(true); server.Terminate() },
			server.Kill,
			server.Terminate,
			func() {
				server.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
					if strings.Contains(sql, "LISTEN") {
						return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "53200", Message: "out of memory"}
					}
					return nil
				})
				server.Kill()
			},
		}
		topics := []string{"a"}
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
			time.Sleep(rand.N(10 * time.Minute))
			troubles[rand.IntN(len(troubles))]()
			topic := fmt.Sprintf("b%03d", len(topics))
			subscribed := background(func() error { return c.Subscribe(context.Background(), topic) })
			time.Sleep(rand.N(5 * time.Minute))
			heal()
			require.NoError(t, outcome(t, subscribed))
			topics = append(topics, topic)
		}
		time.Sleep(time.Hour)
		require.Equal(t, StateListening, hub.State())
		require.Equal(t, topics, server.Listening())
		require.Equal(t, topics, c.Topics())
		server.Notify(topics[len(topics)-1], "e")
		w.await(t, topics[len(topics)-1]+" e")

		losses, returns := 0, 0
		for _, l := range w.lines() {
			switch l {
			case lineDisconnect:
				losses++
			case lineReconnect:
				returns++
			}
			require.Contains(t, []int{0, 1}, losses-returns)
		}
		require.Equal(t, losses, returns)
		require.Greater(t, losses, 10)
	})
}
