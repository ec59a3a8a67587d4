package pghub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

type middlewareKey struct{}

// named is middleware that notes its name around each call, and in the context.
func named(w *witness, name string) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, ev *Event) {
			path, _ := ctx.Value(middlewareKey{}).(string)
			w.handle(ctx, &Event{Topic: name + "(", Payload: []byte(lineOf(ev))})
			next(context.WithValue(ctx, middlewareKey{}, path+name), ev)
			w.handle(ctx, &Event{Topic: ")" + name})
		}
	}
}

// The first is outermost, and supervisory events pass through. The handler's context is what they make of it.
func TestMiddleware(t *testing.T) {
	hub := unitHub(t, Config{})
	w := newWitness()
	c, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
		require.Equal(t, "ab", ctx.Value(middlewareKey{}))
		require.NotNil(t, ConsumerFrom(ctx))
		w.handle(ctx, ev)
	}, &ConsumerConfig{Middleware: []Middleware{named(w, "a"), named(w, "b")}})
	require.NoError(t, err)
	deliveryPut(c, queueRun("t", 1))
	require.NoError(t, c.Drain(within(t)))
	require.Equal(t, []string{
		"a( t 1", "b( t 1", "t 1", ")b ", ")a ",
		"a( " + lineClose, "b( " + lineClose, lineClose, ")b ", ")a ",
	}, w.lines())
}

// A batch is one call, with its first event; so it is for typed topics.
func TestMiddlewareOfBatchesAndTopics(t *testing.T) {
	hub := unitHub(t, Config{})
	w := newWitness()
	var batches [][]string
	c, err := hub.BatchConsumer(t.Context(), func(_ context.Context, events []*Event) {
		batches = append(batches, linesOf(events))
	}, &BatchConfig{ConsumerConfig: ConsumerConfig{Middleware: []Middleware{named(w, "a"), Timeout(time.Hour)}}})
	require.NoError(t, err)
	deliveryPut(c, queueRun("t", 1, 2))
	require.NoError(t, c.Drain(within(t)))
	require.Equal(t, []string{"a( t 1", ")a ", "a( " + lineClose, ")a "}, w.lines())
	require.Equal(t, [][]string{{"t 1", "t 2"}, {lineClose}}, batches)

	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, w := fakeHub(t, server, Config{}), newWitness()
		startHub(t, hub)
		var values []int
		_, err := TopicOf[int]("t").Consumer(t.Context(), hub, func(_ context.Context, _ []int64, v int) error {
			values = append(values, v)
			return nil
		}, &TopicConfig{ConsumerConfig: ConsumerConfig{Middleware: []Middleware{named(w, "a")}}})
		require.NoError(t, err)
		server.Notify("t", "e:7")
		w.await(t, "a( t e:7")
		synctest.Wait()
		require.Equal(t, []int{7}, values)
	})
}

// Each call has its own time. What is over ends the context, and not the handler or the consumer.
func TestTimeout(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		took := make(chan time.Duration, 2)
		c, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *Event) {
			if ev.Advisory != nil {
				_, limited := ctx.Deadline()
				require.True(t, limited)
				return
			}
			begun := time.Now()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			took <- time.Since(begun)
		}, &ConsumerConfig{Topics: []string{"a"}, Middleware: []Middleware{Timeout(time.Minute)}})
		require.NoError(t, err)
		server.Notify("a", "e1")
		server.Notify("a", "e2")
		require.Equal(t, time.Minute, <-took)
		require.Equal(t, time.Minute, <-took)
		synctest.Wait()
		require.Zero(t, c.Stats().Panics)
	})
}
