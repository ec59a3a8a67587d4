package reliability

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// TestTimeStuckHandlersDelayNobody: whoever comes behind a thousand handlers that block at this moment waits for a few
// milliseconds, and not at all once they are known to be stuck.
func TestTimeStuckHandlersDelayNobody(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, quick := startTimeHub(t, s, pghub.Config{}, "quick")
		leave := make(chan struct{})
		for range 1000 {
			consume(t, hub, func(_ context.Context, ev *pghub.Event) {
				if ev.Topic == "t" {
					<-leave
				}
			}, "t")
		}
		began := time.Now()
		s.Notify("t", "e")
		s.Notify("quick", "e1")
		quick.await(t, "quick=e1")
		require.LessOrEqual(t, time.Since(began), 30*time.Millisecond)
		time.Sleep(time.Minute)
		began = time.Now()
		s.Notify("quick", "e2")
		quick.await(t, "quick=e2")
		require.LessOrEqual(t, time.Since(began), 2*time.Millisecond)
		close(leave)
		synctest.Wait()
	})
}

// TestTimeBrakeEndsByItself: a queue that fills up makes the reader pause, and a handler that is stuck does so for some
// milliseconds, once.
func TestTimeBrakeEndsByItself(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, quick := startTimeHub(t, s, pghub.Config{QueueSize: 2000}, "quick")
		enter, leave := make(chan struct{}, 1), make(chan struct{})
		stuck := newDiary()
		consume(t, hub, stuck.blockAt("t=e", enter, leave), "t")
		s.Notify("t", "e")
		<-enter
		began := time.Now()
		for range 10_000 {
			s.Notify("t", "e1")
		}
		s.Notify("quick", "e")
		quick.await(t, "quick=e")
		require.LessOrEqual(t, time.Since(began), 10*time.Millisecond)
		require.EqualValues(t, 8000, hub.Stats().Dropped)
		close(leave)
		stuck.await(t, "lag 8000")
	})
}

// TestTimeResyncBacksOff: a Resync that fails is tried again, after pauses that grow, until it succeeds.
func TestTimeResyncBacksOff(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := startTimeHub(t, s, pghub.Config{ReconnectMin: time.Second, ReconnectMax: time.Minute})
		d := newDiary()
		var tries []time.Time
		_, err := hub.Consumer(t.Context(), d.handle, &pghub.ConsumerConfig{Topics: []string{"t"}, Resync: func(context.Context, pghub.Gap) error {
			if tries = append(tries, time.Now()); len(tries) < 40 {
				return errors.New("not yet")
			}
			return nil
		}})
		require.NoError(t, err)
		s.Kill()
		d.await(t, "reconnect")
		s.Notify("t", "e")
		d.await(t, "t=e") // comes after Resync
		require.Len(t, tries, 40)
		var late time.Duration
		for n, wait := range waits(tries) {
			require.LessOrEqual(t, wait, time.Minute)
			if n > 10 {
				late += wait
			}
		}
		require.Greater(t, late, 5*time.Minute, "half a minute each, on average")
	})
}

// TestFaultProtocolRefusedTopicIsTriedAgain: a topic that the server refuses when the connection comes back is asked for
// again, and what may be missing is announced when it is in effect.
func TestFaultProtocolRefusedTopicIsTriedAgain(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		_, d := startTimeHub(t, s, pghub.Config{ReconnectMax: time.Second}, "t")
		d.expect(t, "connect", "subscribe t")
		s.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if sql == `LISTEN "t"` {
				return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "53200", Message: "out of memory"}
			}
			return nil
		})
		s.Kill()
		d.expect(t, "disconnect", "reconnect")
		time.Sleep(time.Minute)
		require.Equal(t, "reconnect", d.last())
		s.RefuseQuery(nil)
		late := d.await(t, "subscribe t").Advisory
		require.Equal(t, "53200", sqlState(late.Err))
		require.NotZero(t, late.Gap.Until)
		s.Notify("t", "e")
		d.expect(t, "t=e")
	})
}

// TestFaultAnnounceSlowConsumerIsClosed: a consumer that is closed because its queue is full learns how many events it lost.
func TestFaultAnnounceSlowConsumerIsClosed(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := startTimeHub(t, s, pghub.Config{})
		enter, leave := make(chan struct{}, 1), make(chan struct{})
		d := newDiary()
		c, err := hub.Consumer(t.Context(), d.blockAt("t=e", enter, leave), &pghub.ConsumerConfig{
			Topics: []string{"t"}, QueueSize: 10, Overflow: pghub.CloseConsumer,
		})
		require.NoError(t, err)
		s.Notify("t", "e")
		<-enter
		for range 11 {
			s.Notify("t", "e1")
		}
		synctest.Wait()
		close(leave)
		<-c.Done()
		require.Equal(t, []string{"subscribe t", "t=e", "close"}, d.all())
		closed := d.await(t, "close").Advisory
		require.ErrorIs(t, closed.Err, pghub.ErrSlowConsumer)
		require.EqualValues(t, 11, closed.Dropped)
		require.EqualValues(t, 11, hub.Stats().Dropped)
	})
}

// TestOperatorForgetsThoseWhoAreGone: of a consumer that is closed nothing stays but its figures.
func TestOperatorForgetsThoseWhoAreGone(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := startTimeHub(t, s, pghub.Config{})
		enter, leave := make(chan struct{}), make(chan struct{})
		d := newDiary()
		kept := make(chan context.Context, 1)
		c := consume(t, hub, func(ctx context.Context, ev *pghub.Event) {
			d.handle(ctx, ev)
			switch d.last() {
			case "t=e1":
				panic("oops")
			case "t=e2":
				kept <- ctx
				enter <- struct{}{}
				<-leave
			}
		}, "t")
		for _, payload := range []string{"e1", "?", "?", "e2", "e3"} {
			s.Notify("t", payload)
		}
		<-enter
		synctest.Wait()
		st := hub.Stats()
		require.Equal(t, 2, st.Consumers)
		require.EqualValues(t, 1, st.Panics)
		require.EqualValues(t, 2, st.Undecodable)
		require.Equal(t, 1, st.Queued)
		require.NoError(t, c.Close())
		require.Error(t, (<-kept).Err(), "Close ends the handler's context")
		close(leave)
		<-c.Done()
		synctest.Wait()
		require.Equal(t, []string{"subscribe t", "t=e1", "t=e2", "close"}, d.all())
		st = hub.Stats()
		require.Equal(t, 1, st.Consumers)
		require.EqualValues(t, 1, st.Panics)
		require.EqualValues(t, 4+1, st.Delivered, "its four, and connect of the other one")
		require.Zero(t, st.Queued)
		require.Zero(t, st.Topics)

		// One that drains comes to its end without being cut off. The context of its handler ends all the same.
		drained := consume(t, hub, func(ctx context.Context, _ *pghub.Event) {
			select {
			case kept <- ctx:
			default:
			}
		}, "t")
		ctx := <-kept
		require.NoError(t, drained.Drain(t.Context()))
		require.Error(t, ctx.Err())
	})
}
