package livecache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// table is what the cache has copies of, with loads that a test may hold up.
type table struct {
	mu    sync.Mutex
	rows  map[int64]string
	calls [][]int64     // of Load
	gate  chan struct{} // a load that has read waits for it; nil: none does
	fail  func() error
}

func newTable(rows map[int64]string) *table { return &table{rows: maps.Clone(rows)} }

func (tb *table) set(key int64, value string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.rows[key] = value
}

// hold has loads wait, after they have read, until release is called.
func (tb *table) hold() (release func()) {
	gate := make(chan struct{})
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.gate = gate
	return func() {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		if tb.gate == gate {
			tb.gate = nil
		}
		close(gate)
	}
}

func (tb *table) load(ctx context.Context, keys []int64) (map[int64]string, error) {
	tb.mu.Lock()
	slices.Sort(keys)
	tb.calls = append(tb.calls, keys)
	found := make(map[int64]string)
	for _, k := range keys {
		if v, exists := tb.rows[k]; exists {
			found[k] = v
		}
	}
	gate, fail := tb.gate, tb.fail
	tb.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail()
	}
	return found, nil
}

func (tb *table) loadAll(context.Context) (map[int64]string, error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return maps.Clone(tb.rows), nil
}

// loaded returns the calls of Load since it was last asked.
func (tb *table) loaded() string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	calls := tb.calls
	tb.calls = nil
	return fmt.Sprint(calls)
}

// fixture is a cache on a server in memory, inside a bubble.
type fixture struct {
	t     *testing.T
	srv   *pghubtest.Server
	hub   *pghub.Hub
	table *table
	cache *Cache[int64, string]
	errs  []error // of OnError; owned by the cache's goroutine, read when the bubble waits
}

// bubble runs a test with a cache that is ready. change may be nil.
func bubble(t *testing.T, change func(*fixture, *Config[int64, string]), test func(*testing.T, *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, srv: pghubtest.New(t), table: newTable(map[int64]string{1: "one", 2: "two", 3: "three"})}
		f.hub = f.srv.Hub()
		cfg := Config[int64, string]{Topic: "rows", Key: Rows, Load: f.table.load, OnError: func(err error) { f.errs = append(f.errs, err) }}
		if change != nil {
			change(f, &cfg)
		}
		var err error
		f.cache, err = New(pgtest.Within(t), f.hub, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.cache.Close()) })
		synctest.Wait()
		test(t, f)
	})
}

// get requires the answer of the cache, and which loads it took.
func (f *fixture) get(key int64, want, loads string) {
	f.t.Helper()
	value, found, err := f.cache.Get(pgtest.Within(f.t), key)
	require.NoError(f.t, err)
	require.Equal(f.t, want, value)
	require.Equal(f.t, want != "", found)
	require.Equal(f.t, loads, f.table.loaded())
}

// answer is what a Get in the background comes to.
type answer struct {
	value string
	err   error
}

// start has somebody ask for a key, and returns when the load is under way.
func (f *fixture) start(key int64) <-chan answer {
	got := make(chan answer, 1)
	ctx := pgtest.Within(f.t)
	go func() {
		value, _, err := f.cache.Get(ctx, key)
		got <- answer{value, err}
	}()
	synctest.Wait()
	return got
}

// publish sends an event and returns when it has been delivered.
func (f *fixture) publish(payload string) {
	f.t.Helper()
	require.NoError(f.t, f.hub.NotifyPayload(pgtest.Within(f.t), "rows", payload))
	synctest.Wait()
}
