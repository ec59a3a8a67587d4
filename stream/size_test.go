package stream_test

import (
	"context"
	"flag"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

var large = flag.Bool("stream.large", false, "a million events in one transaction, and a value of 100 MB, instead of 50,000 and 20 MB")

// heap is the most memory that was in use while something went on.
type heap struct {
	before uint64
	most   atomic.Uint64
	stop   chan struct{}
	ended  chan struct{}
}

func watchHeap() *heap {
	h := &heap{before: heapInUse(), stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			h.most.Store(max(h.most.Load(), heapInUse()))
			select {
			case <-ticker.C:
			case <-h.stop:
				return
			}
		}
	}()
	return h
}

// grown is by how much more memory was in use at the most, in bytes.
func (h *heap) grown() uint64 {
	close(h.stop)
	<-h.ended
	return max(h.most.Load(), h.before) - h.before
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A transaction is read page by page, however many events it has, and so never is in memory as a whole.
func TestATransactionOfManyEvents(t *testing.T) {
	events, filler := 50_000, strings.Repeat("x", 2000)
	if *large {
		events, filler = 1_000_000, filler[:400] // 400 MB
	}
	l := newLab(t, stream.Config{})
	l.do(`SELECT pghub.publish('before', 0, '0')`)
	h := watchHeap()
	l.do(`SELECT pghub.publish('a', i, concat('"', $2::text, '"')) FROM generate_series(1, $1::int) AS i`, events, filler)
	l.do(`SELECT pghub.publish('after', 0, '0')`)
	var next int64
	all := make(chan struct{})
	_, err := l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		switch {
		case ev.Topic == "after":
			close(all)
		case ev.Topic == "a":
			if next++; ev.Key[0] != next || len(ev.Value) != len(filler)+2 {
				t.Errorf("event %d instead of %d, %d bytes", ev.Key[0], next, len(ev.Value))
			}
		}
		return nil
	}, nil)
	require.NoError(t, err)
	select {
	case <-all:
	case <-time.After(10 * time.Minute):
		require.FailNow(t, "not all events have come")
	}
	require.EqualValues(t, events, next)
	grown := h.grown()
	t.Logf("%d events, %d MB more in use at the most", events, grown>>20)
	require.Less(t, grown, uint64(64<<20), "their values alone have 100 MB; a page has 10,000 events, and 8 MB of values")
}

// A value may be large, and comes as it was.
func TestALargeValue(t *testing.T) {
	size := 20 << 20
	if *large {
		size = 100 << 20
	}
	l := newLab(t, stream.Config{})
	value := "é<\x00 " + strings.Repeat("x", size)
	require.NoError(t, l.s.Publish(t.Context(), "a", []int64{1}, value))
	l.publish("a", 2)
	came, after := make(chan bool, 1), make(chan struct{}, 1)
	_, err := l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		if ev.Key[0] == 2 {
			after <- struct{}{}
			return nil
		}
		got, err := pghub.Decode[string](ev)
		came <- got == value
		return err
	}, nil)
	require.NoError(t, err)
	require.True(t, <-came)
	<-after
}
