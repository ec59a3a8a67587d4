package pghub

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// Run waits where waiting may help: a LISTEN that is cancelled, or finds the server out of memory, is asked for again. A
// name that will never do ends it.
func TestRunAndARefusedListen(t *testing.T) {
	for code, hopeless := range map[string]bool{"57014": false, "53200": false, "55P03": false, "42501": true, "22023": true} {
		t.Run(code, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				var refusing atomic.Bool
				refusing.Store(true)
				refuseWhile(server, "a", code, &refusing)
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ran := background(func() error { return hub.Run(ctx) })
				if hopeless {
					var refusal *ListenError
					require.ErrorAs(t, outcome(t, ran), &refusal)
					return
				}
				time.Sleep(time.Minute)
				require.Empty(t, w.lines())
				refusing.Store(false)
				w.expect(t, lineConnect, lineSubscribe("a"))
				cancel()
				require.NoError(t, outcome(t, ran))
			})
		})
	}
}

// The gap of a topic that was refused in one session, and is back in the next, begins with the first loss.
func TestRouterGapOfATopicThatWasRefusedBefore(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a", "b")
	s.settle()
	unitTake(c)
	first := time.Now()
	hub.router.detach(first, errors.New("first"))
	s.refuses["a"] = true
	s.attach()
	s.settle()
	hub.router.detach(first.Add(time.Hour), errors.New("second"))
	delete(s.refuses, "a")
	s.attach()
	s.settle()
	earliest := time.Time{}
	events := unitTakeEvents(c)
	for _, ev := range events[2:] { // behind the first disconnect and reconnect
		if a := ev.Advisory; a.wantsResync() && (earliest.IsZero() || a.Gap.Since.Before(earliest)) {
			earliest = a.Gap.Since
		}
	}
	require.Equal(t, first, earliest)
}

// What is listened to is a part of the topics, also while UNLISTEN is under way.
func TestStatsListeningIsAmongTopics(t *testing.T) {
	hub, s, c := routerUp(t, Config{})
	routerSubscribe(t, c, "a")
	s.settle()
	hub.router.unsubscribe(c, []string{"a"})
	st := hub.Stats()
	require.LessOrEqual(t, st.Listening, st.Topics)
}

// Whoever asks for a refused topic has it tried at once.
func TestSubscribeAgainToARefusedTopic(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		var on atomic.Bool
		refuseWhile(server, "a", "53000", &on)
		hub := fakeHub(t, server, Config{})
		w, c := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		on.Store(true)
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		on.Store(false)
		began := time.Now()
		require.NoError(t, c.Subscribe(t.Context(), "a"))
		require.Less(t, time.Since(began), time.Second)
	})
}
