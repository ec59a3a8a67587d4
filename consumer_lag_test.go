package pghub

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

func TestALagStandsWhereEventsAreMissing(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError, QueueSize: 3})
		g := newGate()
		_, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		startHub(t, hub)
		for i := range 10 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		synctest.Wait()
		close(g.open)
		g.expect(t, lineConnect, lineSubscribe("a"), lineLag(7), "a e7", "a e8", "a e9")
		errs.await(t, func(err error) bool { return errors.Is(err, ErrSlowConsumer) })
		require.Len(t, errs.all(), 1)
	})
}

func TestAConsumerThatIsClosedWhenItOverflows(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		c, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{Topics: []string{"a"}, QueueSize: 3, Overflow: CloseConsumer})
		require.NoError(t, err)
		startHub(t, hub)
		<-g.entered
		for range 4 {
			server.Notify("a", "e")
		}
		synctest.Wait()
		require.Empty(t, server.Listening())
		require.ErrorIs(t, c.Subscribe(within(t), "a"), ErrClosed)
		close(g.open)
		awaitClosed(t, c.Done(), "the end of the consumer")
		g.expect(t, lineConnect)
		last := g.take(t)
		require.Equal(t, lineClose, lineOf(last))
		require.ErrorIs(t, last.Advisory.Err, ErrSlowConsumer)
		require.Empty(t, g.rest())
	})
}

func TestResyncAfterALag(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		g := newGate()
		gaps := make(chan Gap, 10)
		_, err := hub.Consumer(context.Background(), g.handle, &ConsumerConfig{
			Topics: []string{"a"}, QueueSize: 2,
			Resync: func(_ context.Context, gap Gap) error { gaps <- gap; return nil },
		})
		require.NoError(t, err)
		startHub(t, hub)
		for range 7 {
			server.Notify("a", "e")
		}
		synctest.Wait()
		close(g.open)
		g.expect(t, lineConnect, lineSubscribe("a"), lineLag(5), "a e", "a e")
		require.Equal(t, Gap{Dropped: 5}, <-gaps)
		require.Empty(t, gaps)
	})
}
