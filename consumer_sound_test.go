package pghub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// requireSoundStream requires of a stream: one final event, at its end; disconnect and reconnect in turn; events of a topic
// only behind its subscribe, in order, and without a gap that nothing announces.
func requireSoundStream(t *testing.T, w *witness) {
	t.Helper()
	away := false
	next := map[string]int64{} // of the topics whose events follow each other
	known := map[string]bool{}
	for i, ev := range w.seen {
		if ev.Advisory == nil {
			require.True(t, known[ev.Topic], "an event of %q came before its subscribe", ev.Topic)
			want, inSequence := next[ev.Topic]
			if !inSequence {
				require.GreaterOrEqual(t, ev.Key[0], want)
			} else {
				require.Equal(t, want, ev.Key[0], "event %d, of %q: %v", i, ev.Topic, linesOf(w.seen[:i+1]))
			}
			next[ev.Topic] = ev.Key[0] + 1
			continue
		}
		switch ev.Advisory.Action {
		case ActionSubscribe:
			known[ev.Advisory.Topic] = true
			delete(next, ev.Advisory.Topic)
		case ActionDisconnect:
			require.False(t, away, "a second disconnect")
			away = true
		case ActionReconnect:
			require.True(t, away, "reconnect without disconnect")
			away = false
			clear(next)
		case ActionLag:
			clear(next)
		}
		require.Equal(t, i == len(w.seen)-1, ev.Advisory.Final, "event %d of %d", i, len(w.seen))
	}
	require.NotEmpty(t, w.seen)
}

// Whatever calls and losses come together, every consumer's stream stays sound, and Stop ends it.
func TestStreamsStaySound(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{ReconnectMax: time.Second, QueueSize: 8})
		topics := []string{"a", "b", "c"}
		var witnesses []*witness
		var calls sync.WaitGroup
		for range 20 {
			w := newWitness()
			witnesses = append(witnesses, w)
			c, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *Event) {
				w.handle(ctx, ev)
				if rand.IntN(20) == 0 {
					time.Sleep(rand.N(time.Second))
				}
			}, &ConsumerConfig{Topics: topics[:rand.IntN(4)], Overflow: Overflow(rand.IntN(3))})
			require.NoError(t, err)
			calls.Go(func() {
				for range 50 {
					ctx, cancel := context.WithTimeout(context.Background(), rand.N(time.Second))
					switch topic := topics[rand.IntN(3)]; rand.IntN(40) {
					case 0:
						_ = c.Close()
					case 1:
						_ = c.Drain(ctx)
					default:
						_ = c.Unsubscribe(ctx, topic)
						_ = c.Subscribe(ctx, topic)
					}
					cancel()
					time.Sleep(rand.N(time.Second))
				}
			})
		}
		startHub(t, hub)
		for _, topic := range topics {
			calls.Go(func() {
				for i := range 1000 {
					server.Notify(topic, fmt.Sprint("e", i))
					time.Sleep(rand.N(50 * time.Millisecond))
				}
			})
		}
		calls.Go(func() {
			for range 10 {
				time.Sleep(rand.N(5 * time.Second))
				server.Kill()
			}
		})
		time.Sleep(rand.N(time.Minute))
		require.NoError(t, hub.Stop(context.Background()))
		for _, w := range witnesses {
			requireSoundStream(t, w)
		}
		calls.Wait()
	})
}
