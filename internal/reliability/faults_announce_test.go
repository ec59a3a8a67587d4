package reliability

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// listens matches the LISTEN of a topic.
func listens(topic string) func(sql string) bool {
	return func(sql string) bool { return strings.Contains(sql, fmt.Sprintf("LISTEN %q", topic)) }
}

// TestFaultAnnounceReconnect: reconnect comes after the last of all LISTENs has been acknowledged, not earlier, and no event
// comes between disconnect and reconnect.
func TestFaultAnnounceReconnect(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var topics []string // more than one statement takes
		for n := range 1500 {
			topics = append(topics, fmt.Sprintf("topic %04d", n))
		}
		_, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, topics...)
		s.Notify(topics[0], "e")
		d.await(t, topics[0]+"=e")

		release := s.Hold(func(sql string) bool { return strings.Contains(sql, "LISTEN") && !strings.Contains(sql, topics[0]) })
		s.Kill()
		d.expect(t, "disconnect")
		times := 0
		_, err := s.WaitQuery(t.Context(), func(sql string) bool {
			if listens(topics[0])(sql) {
				times++
			}
			return times == 2 // by the second connection
		})
		require.NoError(t, err)
		synctest.Wait()
		require.Contains(t, s.Listening(), topics[0])
		last := topics[slices.IndexFunc(topics, func(topic string) bool { return !slices.Contains(s.Listening(), topic) })]
		s.Notify(topics[0], "e:1") // listened to already, but within the gap
		synctest.Wait()
		require.Equal(t, "disconnect", d.all()[len(d.all())-1])
		release()
		reconnect, ev := d.next(t)
		require.Equal(t, "reconnect", reconnect)
		require.False(t, ev.Advisory.Gap.Until.Before(ev.Advisory.Gap.Since))
		s.Notify(last, "e:2")
		d.expect(t, last+"=e:2")
	})
}

// TestFaultAnnounceSubscribe: Subscribe returns, and subscribe is announced, once LISTEN has been acknowledged and not
// earlier; events that come before belong to nobody.
func TestFaultAnnounceSubscribe(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config(), ProbeInterval: -1}, "t")
		d.expect(t, "connect", "subscribe t")
		c, err := hub.Consumer(context.Background(), d.handle, nil)
		require.NoError(t, err)
		release := s.Hold(listens("u"))
		done := make(chan error, 1)
		go func() { done <- c.Subscribe(t.Context(), "u") }()
		synctest.Wait()
		require.Empty(t, done)
		s.Notify("t", "e1") // the connection is read while the LISTEN is under way
		d.expect(t, "t=e1")
		release()
		require.NoError(t, <-done)
		d.expect(t, "subscribe u")
		s.Notify("u", "e2")
		d.expect(t, "u=e2")
	})
}

// TestFaultAnnounceLag: what overflows is counted exactly, and announced where it is missing.
func TestFaultAnnounceLag(t *testing.T) {
	for _, test := range []struct {
		overflow pghub.Overflow
		want     []string
	}{
		// The handler has an event in hand while 8 more come to a queue for 3, and then, once it is empty, again 4.
		{pghub.DropOldest, []string{"t=e", "lag 5", "t=e5", "t=e6", "t=e7", "t=e", "lag 1", "t=e1", "t=e2", "t=e3", "stop"}},
		{pghub.DropNewest, []string{"t=e", "t=e0", "t=e1", "t=e2", "lag 5", "t=e", "t=e0", "t=e1", "t=e2", "lag 1", "stop"}},
		{pghub.CloseConsumer, []string{"t=e", "close"}},
	} {
		for _, together := range []bool{false, true} { // in one burst
			scripted(t, func(t *testing.T, s *fakepg.Server) {
				hub, _ := newFaultHub(t, pghub.Config{ListenConfig: s.Config()})
				d, enter, leave := newDiary(), make(chan struct{}, 1), make(chan struct{})
				c, err := hub.Consumer(context.Background(), d.blockAt("t=e", enter, leave), &pghub.ConsumerConfig{Topics: []string{"t"}, QueueSize: 3, Overflow: test.overflow})
				require.NoError(t, err)
				require.NoError(t, hub.Start(t.Context()))
				for _, more := range []int{8, 4} {
					if c.Stats().Dropped > 0 && test.overflow == pghub.CloseConsumer {
						break
					}
					s.Notify("t", "e")
					<-enter
					s.Freeze(together)
					for n := range more {
						s.Notify("t", fmt.Sprintf("e%d", n))
						synctest.Wait()
					}
					s.Freeze(false)
					synctest.Wait()
					leave <- struct{}{}
					synctest.Wait()
				}
				require.NoError(t, stopWithin(t, hub, time.Hour))
				d.expect(t, append([]string{"connect", "subscribe t"}, test.want...)...)
			})
		}
	}
}

// TestFaultAnnounceLagBeforeGap: a lag stands on the right side of a disconnect.
func TestFaultAnnounceLagBeforeGap(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := newFaultHub(t, pghub.Config{ListenConfig: s.Config()})
		d := newDiary()
		quick := newDiary()
		enter, leave := make(chan struct{}, 1), make(chan struct{})
		_, err := hub.Consumer(context.Background(), quick.handle, &pghub.ConsumerConfig{Topics: []string{"t"}})
		require.NoError(t, err)
		_, err = hub.Consumer(context.Background(), d.blockAt("t=e", enter, leave), &pghub.ConsumerConfig{Topics: []string{"t"}, QueueSize: 3})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		s.Notify("t", "e")
		<-enter
		for n := range 5 {
			s.Notify("t", fmt.Sprintf("e%d", n))
		}
		quick.await(t, "t=e4")
		s.Kill()
		quick.await(t, "reconnect")
		for n := range 2 {
			s.Notify("t", fmt.Sprintf("e%d", 10+n))
		}
		quick.await(t, "t=e11")
		close(leave)
		require.NoError(t, stopWithin(t, hub, time.Hour))
		d.expect(t, "connect", "subscribe t", "t=e", "lag 4", "t=e4", "disconnect", "reconnect", "t=e10", "t=e11", "stop")
	})
}

// TestFaultAnnounceResync: Resync runs behind each gap and before the first event that follows, as often as it takes.
func TestFaultAnnounceResync(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, quick := newFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
		d, enter, leave := newDiary(), make(chan struct{}, 1), make(chan struct{})
		tries := 0
		_, err := hub.Consumer(context.Background(), d.blockAt("t=e", enter, leave), &pghub.ConsumerConfig{
			Topics: []string{"t"}, QueueSize: 2,
			Resync: func(_ context.Context, gap pghub.Gap) error {
				d.write(fmt.Sprintf("resync %d %v", gap.Dropped, gap.Until.IsZero()), nil)
				if tries++; tries%3 != 0 {
					return errors.New("not yet")
				}
				return nil
			},
		})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		s.Notify("t", "e")
		<-enter
		for n := range 5 {
			s.Notify("t", fmt.Sprintf("e%d", n))
		}
		quick.await(t, "t=e4")
		s.Kill()
		quick.await(t, "reconnect")
		s.Notify("t", "e9")
		quick.await(t, "t=e9")
		close(leave)
		require.NoError(t, stopWithin(t, hub, time.Hour))
		d.expect(t, "connect", "subscribe t", "t=e", "lag 4", "resync 4 true", "resync 4 true", "resync 4 true", "t=e4",
			"disconnect", "reconnect", "resync 0 false", "resync 0 false", "resync 0 false", "t=e9", "stop")
	})
}

// TestFaultAnnounceHandlerEnds: an event whose handler panics, or ends its goroutine, is done with; those behind it come.
func TestFaultAnnounceHandlerEnds(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := newFaultHub(t, pghub.Config{ListenConfig: s.Config()})
		d := newDiary()
		_, err := hub.Consumer(context.Background(), func(ctx context.Context, ev *pghub.Event) {
			d.handle(ctx, ev)
			switch d.last() {
			case "t=e3":
				panic("a bug")
			case "t=e6":
				runtime.Goexit()
			}
		}, &pghub.ConsumerConfig{Topics: []string{"t"}})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		s.Freeze(true) // so that they come together
		for n := range 10 {
			s.Notify("t", fmt.Sprintf("e%d", n))
		}
		s.Freeze(false)
		d.expect(t, "connect", "subscribe t")
		for n := range 10 {
			d.expect(t, fmt.Sprintf("t=e%d", n))
		}
		require.NoError(t, stopWithin(t, hub, time.Hour))
		d.expect(t, "stop")
	})
}

// TestFaultAnnounceStop: what was committed before Stop was called is received before the connection is given up.
func TestFaultAnnounceStop(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config(), ProbeInterval: -1}, "t")
		release := s.Hold(func(sql string) bool { return strings.TrimSpace(sql) == "" })
		stopped := make(chan error, 1)
		go func() { stopped <- stopWithin(t, hub, time.Hour) }()
		synctest.Wait()
		s.Notify("t", "e") // was on its way
		release()
		require.NoError(t, <-stopped)
		d.expect(t, "connect", "subscribe t", "t=e", "stop")
	})
}
