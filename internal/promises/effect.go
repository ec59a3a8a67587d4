package promises

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// What is committed after Subscribe has returned arrives, behind the advisory.
func subscribeIsInEffect(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, seen.handle, nil)
	for i := range 100 {
		topic := fmt.Sprint("topic", i)
		require.NoError(t, c.Subscribe(within(t), topic))
		b.Publish(Message{topic, "e1"})
		seen.expect(t, "subscribe "+topic, topic+" e1")
	}
	require.NoError(t, c.Subscribe(within(t), "topic7"), "it has this one")
	b.Publish(Message{"topic7", "e2"})
	seen.expect(t, "topic7 e2")
}

// What is committed after the advisory arrives, too: it is not ahead of the source.
func advisoryIsInEffect(t *testing.T, b Backend) {
	const topics = 100
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
		seen.handle(ctx, ev)
		if ev.Advisory != nil && ev.Advisory.Action == pghub.ActionSubscribe {
			b.Publish(Message{ev.Advisory.Topic, "e1"})
		}
	}, nil)
	for i := range topics {
		topic := fmt.Sprint("topic", i)
		asked := background(func() error { return c.Subscribe(within(t), topic) })
		seen.expect(t, "subscribe "+topic, topic+" e1")
		require.NoError(t, answered(t, asked, "Subscribe"))
	}
}

// Topics that were recorded before Start are in effect when it returns.
func topicsBeforeStart(t *testing.T, b Backend) {
	hub := newHub(t, b, nil)
	two, none := watch(t, hub, "a", "b"), watch(t, hub)
	late := newStream()
	c := consume(t, hub, late.handle, nil)
	require.NoError(t, c.Subscribe(within(t), "c"))
	require.NoError(t, hub.Start(within(t)))
	b.Publish(Message{"a", "e1"}, Message{"b", "e2"}, Message{"c", "e3"})
	two.expect(t, "connect")
	first, _ := two.next(t)
	second, _ := two.next(t)
	require.ElementsMatch(t, []string{"subscribe a", "subscribe b"}, []string{first, second})
	two.expect(t, "a e1", "b e2")
	late.expect(t, "connect", "subscribe c", "c e3")
	none.expect(t, "connect")
	watch(t, hub, "a").expect(t, "subscribe a") // one that came later is not told of the connection
	require.Len(t, none.all(), 1)
}

// It is so for many who subscribe at the same time, to what others have too, while events come.
func manySubscribe(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			seen, own := newStream(), fmt.Sprint("own", i)
			c, err := hub.Consumer(within(t), seen.handle, &pghub.ConsumerConfig{Topics: []string{"shared", own}})
			if err != nil {
				t.Error(err)
				return
			}
			b.Publish(Message{"shared", fmt.Sprintf("e%d", i)}, Message{own, "e"})
			seen.await(t, fmt.Sprintf("shared e%d", i))
			seen.await(t, own+" e")
			if err := c.Unsubscribe(within(t), "shared"); err != nil {
				t.Error(err)
			}
			if err := c.Subscribe(within(t), "shared"); err != nil {
				t.Error(err)
			}
			b.Publish(Message{"shared", fmt.Sprintf("e%d", 100+i)})
			seen.await(t, fmt.Sprintf("shared e%d", 100+i))
		})
	}
	all.Wait()
}

// After Unsubscribe nothing of the topic is delivered, not even what waits in the queue; others go on.
func unsubscribeIsInEffect(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	m := newMarkers(t, b, hub)
	other := watch(t, hub, "a")
	slow := newGate()
	c := consume(t, hub, slow.handle, &pghub.ConsumerConfig{Topics: []string{"a", "b"}})
	b.Publish(Message{"b", "e0"})
	done(t, slow.entered, "the first event")
	for i := range 20 {
		b.Publish(numbers("a", i, 1)[0], numbers("b", 1+i, 1)[0])
	}
	m.settle(t)
	require.NoError(t, c.Unsubscribe(within(t), "a", "unknown"))
	require.Equal(t, []string{"b"}, c.Topics())
	close(slow.open)
	b.Publish(Message{"a", "e20"}, Message{"b", "e21"})
	slow.await(t, "b e21")
	require.Empty(t, slow.on("a"))
	require.Len(t, slow.on("b"), 22)
	other.await(t, "a e20")
	require.Len(t, other.on("a"), 21)

	require.NoError(t, c.Subscribe(within(t), "a"))
	b.Publish(Message{"a", "e22"})
	slow.expect(t, "subscribe a", "a e22")
}
