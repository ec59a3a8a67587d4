package promises

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// A consumer sees the events of all its topics in the order of the commits.
func orderAcrossTopics(t *testing.T, b Backend) {
	const topics, events = 7, 3000
	hub := startHub(t, b, nil)
	name := func(i int) string { return fmt.Sprint("topic", i*i%topics) }
	var names []string
	for i := range topics {
		if n := name(i); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	all, some, one := watch(t, hub, names...), watch(t, hub, names[0], names[2]), watch(t, hub, names[1])
	var sent []Message
	for i := range events {
		sent = append(sent, Message{name(i), fmt.Sprintf("e%d", i)})
	}
	for len(sent) > 0 { // one by one, and in bursts
		n := min(len(sent), 1+len(sent)%400)
		b.Publish(sent[:n]...)
		sent = sent[n:]
	}
	b.Publish(Message{names[0], "e:0"}, Message{names[1], "e:1"})
	for _, s := range []struct {
		seen  *stream
		names []string
		last  string
	}{{all, names, names[1] + " e:1"}, {some, []string{names[0], names[2]}, names[0] + " e:0"}, {one, names[1:2], names[1] + " e:1"}} {
		s.seen.await(t, s.last)
		var want []string
		for i := range events {
			if slices.Contains(s.names, name(i)) {
				want = append(want, fmt.Sprintf("%s e%d", name(i), i))
			}
		}
		var got []string
		for _, line := range s.seen.all() {
			if strings.Contains(line, " e") && !strings.Contains(line, " e:") {
				got = append(got, line)
			}
		}
		require.Equal(t, want, got)
	}
}

// Several who publish at the same time have one order for all who listen, in every process.
func orderIsTheSameForAll(t *testing.T, b Backend) {
	const callers, each = 4, 100
	hubs := []*pghub.Hub{startHub(t, b, nil), startHub(t, b, nil)}
	var streams []*stream
	for i := range 4 {
		streams = append(streams, watch(t, hubs[i%2], "a", "b", "end"))
	}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				topic := []string{"a", "b"}[n%2]
				if err := hubs[i%2].Notify(context.Background(), topic, []int64{int64(i), int64(n)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.Publish(Message{"end", "e"})
	var first []string
	for i, s := range streams {
		s.await(t, "end e")
		lines := slices.DeleteFunc(s.all(), func(line string) bool { return strings.HasPrefix(line, "subscribe") })
		require.Len(t, lines, callers*each+1)
		if i == 0 {
			first = lines
		}
		require.Equal(t, first, lines)
	}
	for i := range callers {
		next := 0
		for _, line := range first {
			if _, n, found := strings.Cut(line, fmt.Sprintf(" e%d,", i)); found {
				require.Equal(t, fmt.Sprint(next), n)
				next++
			}
		}
		require.Equal(t, each, next)
	}
}

// A handler never runs twice at the same time.
func oneEventAtATime(t *testing.T, b Backend) {
	const consumers, events = 8, 300
	hub := startHub(t, b, nil)
	var twice atomic.Int64
	var streams []*stream
	for range consumers {
		s := newStream()
		streams = append(streams, s)
		var inside atomic.Int64
		consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
			if inside.Add(1) > 1 {
				twice.Add(1)
			}
			for range 10 {
				runtime.Gosched()
			}
			s.handle(ctx, ev)
			inside.Add(-1)
		}, &pghub.ConsumerConfig{Topics: []string{"a", "b"}})
	}
	for i := range events {
		b.Publish(numbers([]string{"a", "b"}[i%2], i, 1)...)
	}
	for _, s := range streams {
		s.await(t, fmt.Sprintf("b e%d", events-1))
	}
	require.Zero(t, twice.Load())
}
