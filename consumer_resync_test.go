package pghub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestResyncComesBetweenTheGapAndTheNextEvent(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w := newWitness()
		release := make(chan struct{})
		gaps := make(chan Gap, 1)
		_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{
			Topics: []string{"a"},
			Resync: func(_ context.Context, gap Gap) error {
				gaps <- gap
				<-release
				return nil
			},
		})
		require.NoError(t, err)
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		synctest.Wait()
		require.Empty(t, gaps, "the first connection is no gap")

		lost := time.Now()
		server.Kill()
		gap := <-gaps
		server.Notify("a", "e")
		synctest.Wait()
		w.expect(t, lineDisconnect, lineReconnect)
		require.Empty(t, w.rest(), "events wait for the resync")
		require.Equal(t, lost, gap.Since)
		require.False(t, gap.Until.Before(lost))
		require.Error(t, gap.Err)
		require.Zero(t, gap.Dropped)
		close(release)
		w.expect(t, "a e")
	})
}

// A resync that fails is tried again, ever more rarely, until it succeeds.
func TestResyncIsRetried(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("the database is still warming up") },
		"panic": func() error { panic("the database is still warming up") },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				errs := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: errs.onError, ReconnectMin: time.Second, ReconnectMax: time.Minute})
				w := newWitness()
				var tries []time.Time
				c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{
					Topics: []string{"a"},
					Resync: func(context.Context, Gap) error {
						if tries = append(tries, time.Now()); len(tries) < 20 {
							return fail()
						}
						return nil
					},
				})
				require.NoError(t, err)
				startHub(t, hub)
				server.Kill()
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
				server.Notify("a", "e")
				time.Sleep(time.Hour)
				w.expect(t, "a e")
				require.Len(t, tries, 20)
				for i, at := range tries[1:] {
					require.LessOrEqual(t, at.Sub(tries[i]), min(time.Second<<i, time.Minute))
				}
				require.Greater(t, tries[19].Sub(tries[0]), time.Minute)
				reported := errs.await(t, func(err error) bool { return strings.Contains(err.Error(), "resync") })
				require.ErrorContains(t, reported, "warming up")
				if name == "panic" {
					require.ErrorIs(t, reported, ErrPanic)
					require.EqualValues(t, 19, c.Stats().Panics)
				}
			})
		})
	}
}

func TestCloseEndsAResync(t *testing.T) {
	for name, resync := range map[string]func(context.Context, Gap) error{
		"under way":       func(ctx context.Context, _ Gap) error { <-ctx.Done(); return ctx.Err() },
		"that will retry": func(context.Context, Gap) error { return errors.New("no good") },
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{ReconnectMin: time.Hour, ReconnectMax: time.Hour})
				w := newWitness()
				c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"a"}, Resync: resync})
				require.NoError(t, err)
				startHub(t, hub)
				server.Kill()
				passing(t, time.Minute, func() bool { return len(w.lines()) == 4 })
				w.expect(t, lineConnect, lineSubscribe("a"), lineDisconnect, lineReconnect)
				require.NoError(t, c.Close())
				synctest.Wait()
				require.Equal(t, []string{lineClose}, w.rest(), "at once")
			})
		})
	}
}
