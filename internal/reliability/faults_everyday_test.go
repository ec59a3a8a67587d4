package reliability

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// account is what a consumer of numbers has seen, which were published in ascending order: what it may not see is written down.
type account struct {
	mu     sync.Mutex
	last   int
	byKey  map[int64]int // the last number of each key
	gaps   int
	gap    bool // one was announced since the last number
	wrongs []string
}

func newAccount() *account { return &account{byKey: make(map[int64]int)} }

// advise notes a gap.
func (a *account) advise(advisory *pghub.Advisory) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if advisory.Action == pghub.ActionReconnect || advisory.Action == pghub.ActionLag {
		a.gaps++
		a.gap = true
	}
}

// number notes a number; one that must follow the last unless there was a gap, or, where only the latest comes, be later for its key.
func (a *account) number(key int64, n int, latest bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case latest && n <= a.byKey[key], !latest && n <= a.last:
		a.wrongs = append(a.wrongs, fmt.Sprintf("%d of key %d after %d, and %d of any", n, key, a.byKey[key], a.last))
	case !latest && n != a.last+1 && !a.gap:
		a.wrongs = append(a.wrongs, fmt.Sprintf("%d after %d, and no gap", n, a.last))
	}
	a.last, a.byKey[key], a.gap = n, n, false
}

func (a *account) batches(latest bool) pghub.BatchHandler {
	return func(_ context.Context, events []*pghub.Event) {
		for _, ev := range events {
			if ev.Advisory != nil {
				a.advise(ev.Advisory)
				continue
			}
			n, err := pghub.Decode[int](ev)
			if err != nil {
				n = -1 // which is wrong
			}
			a.number(ev.Key[0], n, latest)
		}
	}
}

// listener returns the process that listens, as soon as there is one.
func listener(t *testing.T, hub *pghub.Hub) (pid uint32) {
	t.Helper()
	require.Eventually(t, func() bool {
		pid = hub.Stats().PID
		return pid != 0
	}, faultPatience, time.Millisecond)
	return pid
}

// TestFaultEverydayParts: batches, the latest for each key, typed topics, ResyncEvery and Check, while the listener's process is ended
// again and again under a stream of events: nothing is missing without a gap, and what counts in the end has come.
func TestFaultEverydayParts(t *testing.T) {
	pgtest.CheckLeaks(t)
	const rounds, each, keys = 10, 200, 10
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMax: 100 * time.Millisecond, PublishTimeout: faultPatience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	numbers := pghub.TopicOf[int]("numbers")
	topics := pghub.ConsumerConfig{Topics: []string{numbers.Name()}}
	batched, latest, typed := newAccount(), newAccount(), newAccount()
	_, err = hub.BatchConsumer(t.Context(), batched.batches(false), &pghub.BatchConfig{ConsumerConfig: topics, Max: 7, Delay: time.Millisecond})
	require.NoError(t, err)
	_, err = hub.BatchConsumer(t.Context(), latest.batches(true), &pghub.BatchConfig{ConsumerConfig: topics, Latest: true, Delay: time.Millisecond})
	require.NoError(t, err)
	_, err = numbers.Consumer(t.Context(), hub, func(_ context.Context, key []int64, n int) error {
		typed.number(key[0], n, false)
		return nil
	}, &pghub.TopicConfig{Advisory: func(_ context.Context, a *pghub.Advisory) { typed.advise(a) }})
	require.NoError(t, err)
	var resyncs atomic.Int64
	_, err = hub.Consumer(t.Context(), func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
		Topics: []string{numbers.Name()}, ResyncEvery: 10 * time.Millisecond, ResyncJitter: 10 * time.Millisecond,
		Resync: func(context.Context, pghub.Gap) error {
			if resyncs.Add(1)%3 == 0 {
				panic("now and then")
			}
			return nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))

	checks := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
		defer cancel()
		_, err := hub.Check(ctx)
		return err
	}
	n := 0
	for range rounds {
		before := hub.Stats().Reconnects
		for i := range each {
			if i == each/2 {
				runSQL(t, pool.Config().ConnString(), "SELECT pg_terminate_backend($1)", listener(t, hub))
			}
			n++
			require.NoError(t, numbers.Notify(t.Context(), hub, []int64{int64(n % keys)}, n))
		}
		require.Eventually(t, func() bool { return hub.Stats().Reconnects > before }, faultPatience, time.Millisecond)
		require.Eventually(t, func() bool { return checks() == nil }, faultPatience, time.Millisecond)
	}
	for range keys { // after Check they arrive
		n++
		require.NoError(t, numbers.Notify(t.Context(), hub, []int64{int64(n % keys)}, n))
	}
	for name, a := range map[string]*account{"batches": batched, "latest": latest, "typed": typed} {
		require.Eventually(t, func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			for key := range int64(keys) {
				if newest := n - (n-int(key))%keys; a.byKey[key] != newest {
					return false
				}
			}
			return true
		}, faultPatience, time.Millisecond, name)
		a.mu.Lock()
		require.Empty(t, a.wrongs, name)
		require.GreaterOrEqual(t, a.gaps, rounds, name)
		a.mu.Unlock()
	}
	require.Eventually(t, func() bool { return resyncs.Load() > 2*rounds }, faultPatience, time.Millisecond, "without gaps too")
	require.Zero(t, hub.Stats().Undecodable)
}
