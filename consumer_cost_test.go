package pghub

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/source"
)

// heap is how much is allocated and in use.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what has finalizers goes in the second
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}

func TestAnIdleConsumerIsCheap(t *testing.T) {
	consumers, topics := 50_000, 1000
	server := fakepg.New()
	t.Cleanup(server.Close)
	hub := fakeHub(t, server, Config{})
	startHub(t, hub)
	_, err := hub.Consumer(context.Background(), func(context.Context, *Event) {}, &ConsumerConfig{Topics: []string{"first"}})
	require.NoError(t, err)
	goroutines, before := runtime.NumGoroutine(), heap()

	var told atomic.Int64
	handler := func(context.Context, *Event) { told.Add(1) }
	kept := make([]*Consumer, consumers)
	for i := range kept {
		kept[i], err = hub.Consumer(context.Background(), handler, &ConsumerConfig{Topics: []string{fmt.Sprint("t", i%topics)}})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return told.Load() == int64(consumers) }, patience, time.Millisecond)
	const ofTheTest = 10
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+ofTheTest }, patience, time.Millisecond)
	var each int64
	require.Eventually(t, func() bool { // the stacks of goroutines that have ended are given back by and by
		each = (heap() - before) / int64(consumers)
		return each <= 1024
	}, patience, 10*time.Millisecond, "bytes a consumer")
	t.Logf("%d bytes a consumer", each)
	require.Equal(t, consumers+1, hub.Stats().Consumers)
	runtime.KeepAlive(kept)
}

func TestABlockedConsumerIsBounded(t *testing.T) {
	events, burst := fewer(1_000_000), 100
	server := fakepg.New()
	t.Cleanup(server.Close)
	hub := fakeHub(t, server, Config{})
	g := newGate()
	unblock := sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(unblock)
	c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	startHub(t, hub)
	<-g.entered
	before := heap()
	notifications := make([]source.Message, burst)
	for i := 0; i < events; i += burst {
		for j := range notifications {
			notifications[j] = source.Message{Topic: []byte("a"), Payload: fmt.Append(nil, "e", i+j)}
		}
		hub.router.route(notifications, false, false)
	}
	grown := heap() - before
	t.Logf("%d kB for %d queued events", grown/1024, c.Stats().Queued)
	require.Less(t, grown, int64(defaultQueueSize*512))
	require.LessOrEqual(t, c.Stats().Queued, defaultQueueSize)
	require.EqualValues(t, events, int(c.Stats().Dropped)+c.Stats().Queued)

	unblock()
	g.await(t, fmt.Sprint("a e", events-1))
	require.Equal(t, lineLag(events-defaultQueueSize), g.lines()[2])
}
