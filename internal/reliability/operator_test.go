package reliability

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// linesAbout returns the lines of a log whose message contains a text.
func linesAbout(t *testing.T, log *logLines, part string) (found []map[string]any) {
	t.Helper()
	for _, line := range log.all(t) {
		if strings.Contains(line["msg"].(string), part) {
			found = append(found, line)
		}
	}
	return found
}

// TestOperatorSeesStates: each change of state is a line with what belongs to it, and Stats says the same.
func TestOperatorSeesStates(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var log logLines
		hub, d := startTimeHub(t, s, pghub.Config{Name: "orders", Logger: log.logger()}, "t")
		require.Equal(t, pghub.StateListening, hub.Stats().State)
		pid := float64(hub.Stats().PID)
		require.NotZero(t, pid)
		require.NotEmpty(t, hub.Stats().Server)
		time.Sleep(time.Minute)
		s.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "the database system is starting up"})
		s.Terminate()
		d.await(t, "disconnect")
		time.Sleep(5 * time.Minute)
		stats := hub.Stats()
		require.NotEqual(t, pghub.StateListening, stats.State)
		require.Empty(t, stats.Server)
		require.Zero(t, stats.PID)
		require.Equal(t, "57P03", sqlState(stats.LastError))
		attempts := stats.Attempts
		require.Greater(t, attempts, uint64(5))
		s.FailStartup(nil)
		d.await(t, "reconnect")
		require.Equal(t, uint64(1), hub.Stats().Reconnects)
		require.NoError(t, stopWithin(t, hub, time.Hour))
		require.Equal(t, pghub.StateStopped, hub.Stats().State)

		for _, line := range log.all(t) {
			require.Equal(t, "orders", line["hub"])
		}
		connecting := linesAbout(t, &log, "pghub: connecting")
		require.Equal(t, "DEBUG", connecting[0]["level"])
		require.EqualValues(t, 1, connecting[0]["attempt"])
		listening := linesAbout(t, &log, "pghub: listening")
		require.Len(t, listening, 2)
		require.Equal(t, pid, listening[0]["pid"])
		require.Equal(t, "INFO", listening[0]["level"])
		require.EqualValues(t, 1, listening[0]["attempt"])
		require.NotEmpty(t, listening[0]["server"])
		require.NotEmpty(t, listening[0]["version"])
		lost := linesAbout(t, &log, "ended")
		require.Len(t, lost, 1)
		require.Equal(t, "WARN", lost[0]["level"])
		require.Contains(t, lost[0]["msg"], "57P01")
		require.Equal(t, pid, lost[0]["pid"])
		require.NotEmpty(t, lost[0]["server"])
		require.Contains(t, lost[0], "next_attempt_in")
		failed := linesAbout(t, &log, "57P03")
		require.Greater(t, len(failed), 5)
		require.Contains(t, failed[0], "attempt")
		require.Contains(t, failed[0], "next_attempt_in")
		require.Len(t, linesAbout(t, &log, "pghub: stopping"), 1)
		require.Len(t, linesAbout(t, &log, "pghub: stopped"), 1)
	})
}

// TestOperatorIsNotFlooded: whatever goes on, no cause brings more than a line a second, and what was left out is counted.
func TestOperatorIsNotFlooded(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var log logLines
		var told atomic.Int64
		hub, err := pghub.New(pghub.Config{
			ListenConfig: s.Config(), Logger: log.logger(), ReconnectMin: time.Millisecond, ReconnectMax: time.Millisecond,
			OnError: func(error) {
				told.Add(1)
				panic("another bug")
			},
		})
		require.NoError(t, err)
		d := newDiary()
		_, err = hub.Consumer(context.Background(), func(ctx context.Context, ev *pghub.Event) {
			d.handle(ctx, ev)
			panic("a bug")
		}, &pghub.ConsumerConfig{Topics: []string{"t"}})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		for n := range 1000 {
			s.Notify("t", "undecodable")
			s.Notify("t", fmt.Sprintf("e%d", n))
			d.await(t, fmt.Sprintf("t=e%d", n))
			s.Kill()
			d.await(t, "reconnect")
			time.Sleep(10 * time.Millisecond)
		}
		require.NoError(t, stopWithin(t, hub, time.Hour))
		require.GreaterOrEqual(t, told.Load(), int64(3000))

		last := map[string]time.Time{}
		skipped := 0.0
		for _, line := range log.all(t) {
			at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
			require.NoError(t, err)
			words := strings.Fields(line["msg"].(string))
			cause := strings.Join(words[:min(2, len(words))], " ")
			if before, again := last[cause]; again {
				require.GreaterOrEqual(t, at.Sub(before), time.Second, cause)
			}
			last[cause] = at
			if n, some := line["similar_lines_skipped"].(float64); some {
				skipped += n
			}
		}
		require.Greater(t, skipped, 2000.0)
	})
}

// TestOperatorHearsOfSlowHandler: a slow handler is named once it is slow, not once an event, and again if it still is
// after a minute.
func TestOperatorHearsOfSlowHandler(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var log logLines
		hub, err := pghub.New(pghub.Config{ListenConfig: s.Config(), Logger: log.logger()})
		require.NoError(t, err)
		_, err = hub.Consumer(context.Background(), func(ctx context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				pause(ctx, 3*time.Second)
			}
		}, &pghub.ConsumerConfig{Topics: []string{"t"}})
		require.NoError(t, err)
		require.NoError(t, hub.Start(t.Context()))
		for range 40 {
			s.Notify("t", "e")
		}
		time.Sleep(2 * time.Second)
		slow := linesAbout(t, &log, "slow")
		require.Len(t, slow, 1)
		require.Equal(t, "WARN", slow[0]["level"])
		require.Equal(t, "t", slow[0]["topic"])
		require.InDelta(t, float64(time.Second), slow[0]["busy"], float64(500*time.Millisecond))
		require.InDelta(t, 39, slow[0]["queued"], 1)
		time.Sleep(50 * time.Second)
		require.Len(t, linesAbout(t, &log, "slow"), 1)
		time.Sleep(15 * time.Second)
		require.Len(t, linesAbout(t, &log, "slow"), 2, "it still is slow")
		require.NoError(t, stopWithin(t, hub, time.Hour))
	})
}

// TestOperatorOnError: OnError is never called by two goroutines at once, holds nobody up, and hears of everything while
// it keeps up; what it misses is counted.
func TestOperatorOnError(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var log logLines
		var running, told atomic.Int64
		block := make(chan struct{})
		_, d := startTimeHub(t, s, pghub.Config{Logger: log.logger(), OnError: func(err error) {
			if running.Add(1) != 1 {
				t.Error("OnError runs twice at once")
			}
			defer running.Add(-1)
			var undecodable *pghub.DecodeError
			if !errors.As(err, &undecodable) {
				t.Errorf("OnError is told %v", err)
			}
			<-block
			if told.Add(1)%3 == 0 {
				panic("OnError panics")
			}
		}}, "t")
		for range 1500 {
			s.Notify("t", "?")
		}
		s.Notify("t", "e")
		d.await(t, "t=e") // although OnError is blocked
		close(block)
		synctest.Wait()
		require.Greater(t, told.Load(), int64(1000), "1,024 have room, but for lines of the log that wait with them")
		require.Less(t, told.Load(), int64(1500))
		// The first line may have been written before all were missed. Another one comes with the next error, a second later.
		time.Sleep(2 * time.Second)
		s.Notify("t", "?")
		synctest.Wait()
		var missed float64
		for _, line := range linesAbout(t, &log, "were not passed") {
			missed += line["errors"].(float64)
		}
		require.EqualValues(t, 1501-told.Load(), missed)
	})
}

// TestOperatorOnErrorIsAlwaysSlow: that OnError misses errors is said no more than once a second either.
func TestOperatorOnErrorIsAlwaysSlow(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var log logLines
		_, d := startTimeHub(t, s, pghub.Config{Logger: log.logger(), OnError: func(error) { time.Sleep(10 * time.Millisecond) }}, "t")
		for n := range 300 {
			for range 100 {
				s.Notify("t", "?")
			}
			s.Notify("t", fmt.Sprintf("e%d", n))
			d.await(t, fmt.Sprintf("t=e%d", n))
			time.Sleep(100 * time.Millisecond)
		}
		lines := linesAbout(t, &log, "were not passed")
		require.NotEmpty(t, lines)
		require.LessOrEqual(t, len(lines), 31)
		time.Sleep(time.Minute) // for OnError to come to its end
	})
}

// TestOperatorCountsEachEvent: what waits is summed over all consumers, and what nobody wants any more is counted one by
// one, however it came.
func TestOperatorCountsEachEvent(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, _ := startTimeHub(t, s, pghub.Config{})
		leave := make(chan struct{})
		for range 2 {
			enter := make(chan struct{}, 1)
			consume(t, hub, newDiary().blockAt("t=e", enter, leave), "t")
		}
		s.SendRaw(wire(t, notification("e"), notification("e1"), notification("e2"), notification("e3")))
		synctest.Wait()
		require.Equal(t, 6, hub.Stats().Queued, "three for each of the two")
		s.SendRaw(wire(t, notification("e4"), notification("e5"))) // not fetched together with those
		synctest.Wait()
		require.Equal(t, 10, hub.Stats().Queued, "five for each of the two")
		close(leave)
		synctest.Wait()
		require.Zero(t, hub.Stats().Queued)

		before := hub.Stats()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		only, err := hub.Consumer(t.Context(), newDiary().handle, &pghub.ConsumerConfig{Topics: []string{"v"}})
		require.NoError(t, err)
		hold := s.Hold(func(sql string) bool { return sql == `UNLISTEN "v"` })
		require.ErrorIs(t, only.Unsubscribe(ended, "v"), context.Canceled)
		synctest.Wait()
		late := &pgproto3.NotificationResponse{PID: 7, Channel: "v", Payload: "e"}
		s.SendRaw(wire(t, late, late, late))
		synctest.Wait()
		after := hub.Stats()
		require.EqualValues(t, 3, after.Received-before.Received)
		require.EqualValues(t, 3, after.Unwanted-before.Unwanted)
		hold()
	})
}
