package pghub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// All events of many callers arrive, equal ones too, and those of a caller in its order.
func TestPublishConcurrently(t *testing.T) {
	const callers, calls = 64, 100
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"unique", "equal"}, QueueSize: -1})
	require.NoError(t, err)
	var waits sync.WaitGroup
	for caller := range callers {
		waits.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range calls {
				if err := hub.Notify(ctx, "unique", []int64{int64(caller), int64(i)}, nil); err != nil {
					t.Error(err)
				}
				if err := hub.Notify(ctx, "equal", []int64{int64(i % 3)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	waits.Wait()
	next, equal := make(map[int64]int64), 0
	for range 2 * callers * calls {
		ev := stream.await(t, func(ev *Event) bool { return ev.Advisory == nil })
		if ev.Topic == "equal" {
			require.Len(t, ev.Key, 1)
			require.Nil(t, ev.Value)
			equal++
			continue
		}
		require.Equal(t, next[ev.Key[0]], ev.Key[1], "of caller %d", ev.Key[0])
		next[ev.Key[0]]++
	}
	require.Equal(t, callers*calls, equal)
	require.Len(t, next, callers)
	stats := hub.Stats()
	require.Equal(t, uint64(2*callers*calls), stats.Published)
	require.Less(t, stats.PublishBatches, stats.Published/4, "they share statements")
	require.Zero(t, stats.PublishErrors)
}

// Equal texts cannot be told apart: they go one a statement, and all arrive.
func TestPublishEqualTexts(t *testing.T) {
	const callers, calls = 16, 10
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{Codec: RawCodec{}})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	var waits sync.WaitGroup
	for caller := range callers {
		waits.Go(func() {
			for range calls {
				if err := hub.NotifyPayload(t.Context(), "a", fmt.Sprint("text ", caller%2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	waits.Wait()
	count := make(map[string]int)
	for range callers * calls {
		count[string(stream.await(t, func(ev *Event) bool { return ev.Advisory == nil }).Payload)]++
	}
	require.Equal(t, map[string]int{"text 0": callers * calls / 2, "text 1": callers * calls / 2}, count)
}

// Whatever a context does to a call, what is said of the event is true: nil means delivered, and an error other than
// ErrUnknownOutcome means not sent.
func TestPublishCancelled(t *testing.T) {
	const callers, calls = 16, 100
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{})
	_, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: []string{"a"}, QueueSize: -1})
	require.NoError(t, err)
	var mu sync.Mutex
	outcomes := make(map[[2]int64]error)
	var waits sync.WaitGroup
	for caller := range int64(callers) {
		rnd := rand.New(rand.NewPCG(uint64(caller), 0))
		waits.Go(func() {
			for i := range int64(calls) {
				limit := time.Hour
				if i%4 > 0 {
					limit = time.Duration(rnd.IntN(3000)) * time.Microsecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				err := hub.Notify(ctx, "a", []int64{caller, i}, nil)
				cancel()
				mu.Lock()
				outcomes[[2]int64{caller, i}] = err
				mu.Unlock()
			}
		})
	}
	waits.Wait()
	require.NoError(t, hub.Notify(t.Context(), "a", nil, "last"))

	arrived := make(map[[2]int64]int)
	last := stream.await(t, func(ev *Event) bool {
		if len(ev.Key) == 2 {
			arrived[[2]int64(ev.Key)]++
		}
		return ev.Value != nil && ev.Advisory == nil
	})
	require.Equal(t, `"last"`, string(last.Value))
	kinds := make(map[string]int)
	for key, err := range outcomes {
		switch {
		case err == nil:
			kinds["delivered"]++
			require.Equal(t, 1, arrived[key], "%v", key)
		case errors.Is(err, ErrUnknownOutcome):
			kinds["unknown"]++
			require.LessOrEqual(t, arrived[key], 1, "%v", key)
		default:
			kinds["not sent"]++
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Zero(t, arrived[key], "%v: %v", key, err)
		}
	}
	t.Log(kinds)
	require.GreaterOrEqual(t, kinds["delivered"], callers*calls/5, "those without a limit are")
}
