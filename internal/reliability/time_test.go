package reliability

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// startTimeHub starts a hub with one consumer, with exactly this configuration.
func startTimeHub(t *testing.T, s *fakepg.Server, cfg pghub.Config, topics ...string) (*pghub.Hub, *diary) {
	t.Helper()
	cfg.ListenConfig = s.Config()
	hub, err := pghub.New(cfg)
	require.NoError(t, err)
	d := newDiary()
	_, err = hub.Consumer(context.Background(), d.handle, &pghub.ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopWithin(t, hub, time.Hour)) })
	require.NoError(t, hub.Start(t.Context()))
	return hub, d
}

// stopWithin stops a hub, at the end of a test too.
func stopWithin(t *testing.T, hub *pghub.Hub, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	return hub.Stop(ctx)
}

// waits returns the times between dials.
func waits(dials []time.Time) []time.Duration {
	var between []time.Duration
	for i := 1; i < len(dials); i++ {
		between = append(between, dials[i].Sub(dials[i-1]))
	}
	return between
}

// TestTimeBackoff: the n-th wait is random between nothing and a ceiling that doubles up to ReconnectMax, and makes full
// use of that range.
func TestTimeBackoff(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		const lowest, highest = 100 * time.Millisecond, 30 * time.Second
		startTimeHub(t, s, pghub.Config{})
		s.RefuseDials(errors.New("refused"))
		s.Kill()
		time.Sleep(24 * time.Hour)
		all := waits(s.Dials()[1:]) // the first dial was that of Start, the second came after a wait for the loss
		require.Greater(t, len(all), 3000)
		ceiling := 2 * lowest
		for n, wait := range all {
			require.LessOrEqual(t, wait, ceiling, "wait %d", n)
			ceiling = min(2*ceiling, highest)
		}
		late := all[20:]
		var sum time.Duration
		for _, wait := range late {
			sum += wait
		}
		require.Less(t, slices.Min(late), highest/100)
		require.Greater(t, slices.Max(late), highest*99/100)
		require.InDelta(t, (highest / 2).Seconds(), (sum / time.Duration(len(late))).Seconds(), 2)
	})
}

// TestTimeBackoffStartsAnew: once a connection has been listening for ReconnectMax, the next loss is a first one. A
// connection that is lost again and again before that does not hammer the server.
func TestTimeBackoffStartsAnew(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		const lowest, highest = 100 * time.Millisecond, 30 * time.Second
		_, d := startTimeHub(t, s, pghub.Config{})
		for range 100 {
			time.Sleep(highest)
			before := time.Now()
			s.Kill()
			d.await(t, "reconnect")
			require.LessOrEqual(t, time.Since(before), lowest)
		}
		began, dials := time.Now(), len(s.Dials())
		for time.Since(began) < 2*time.Hour {
			s.Kill()
			d.await(t, "reconnect")
			time.Sleep(time.Second)
		}
		require.Less(t, len(s.Dials())-dials, 2*int(2*time.Hour/(highest/2)))
	})
}

// TestTimeHerd: hubs that lose their connections at the same moment do not come back in step.
func TestTimeHerd(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		const hubs, span, bins = 100, time.Second, 10
		var all []*diary
		for range hubs {
			_, d := startTimeHub(t, s, pghub.Config{ReconnectMin: span}, "t")
			all = append(all, d)
		}
		restart := time.Now()
		s.Kill()
		for _, d := range all {
			d.await(t, "reconnect")
		}
		var count [bins]int
		for _, at := range s.Dials()[hubs:] {
			count[min(bins-1, int(at.Sub(restart)*bins/span))]++
		}
		for bin, n := range count { // of 100, 10 are to be expected in each
			require.Less(t, n, 35, "too many of them came back in the %d. tenth of a second: %v", bin+1, count)
		}
	})
}

// probes counts the probes among the queries of a server.
func probes(s *fakepg.Server) (n int) {
	for _, sql := range s.Queries() {
		if strings.HasSuffix(sql, "pg_is_in_recovery()") { // and nothing more, as when it connects
			n++
		}
	}
	return n
}

// TestTimeProbe: a silent connection is probed once each ProbeInterval, a busy one never, and one that does not answer is
// given up after ProbeTimeout.
func TestTimeProbe(t *testing.T) {
	const interval, timeout = 10 * time.Second, 5 * time.Second
	run := func(name string, cfg pghub.Config, test func(t *testing.T, s *fakepg.Server, d *diary)) {
		t.Run(name, func(t *testing.T) {
			scripted(t, func(t *testing.T, s *fakepg.Server) {
				_, d := startTimeHub(t, s, cfg, "t")
				d.expect(t, "connect", "subscribe t")
				test(t, s, d)
			})
		})
	}
	run("silent", pghub.Config{}, func(t *testing.T, s *fakepg.Server, _ *diary) {
		time.Sleep(interval - 1)
		synctest.Wait()
		require.Zero(t, probes(s))
		for n := range 1000 {
			time.Sleep(interval)
			synctest.Wait()
			require.Equal(t, n+1, probes(s))
		}
	})
	run("busy", pghub.Config{}, func(t *testing.T, s *fakepg.Server, d *diary) {
		for n := range 1000 {
			time.Sleep(interval - 1)
			s.Notify("t", fmt.Sprintf("e%d", n))
			d.expect(t, fmt.Sprintf("t=e%d", n))
		}
		require.Zero(t, probes(s))
	})
	run("dead", pghub.Config{}, func(t *testing.T, s *fakepg.Server, d *diary) {
		time.Sleep(interval / 2)
		s.Notify("t", "e") // the last that is heard
		d.expect(t, "t=e")
		last := time.Now()
		s.Freeze(true)
		lost := d.await(t, "disconnect").Advisory
		require.Equal(t, interval+timeout, time.Since(last))
		require.ErrorIs(t, lost.Err, pghub.ErrProbe)
		require.Equal(t, last, lost.Gap.Since)
	})
	run("slow", pghub.Config{}, func(t *testing.T, s *fakepg.Server, d *diary) {
		for range 100 {
			time.Sleep(interval - time.Second)
			s.Freeze(true)
			time.Sleep(timeout)
			s.Freeze(false)
			synctest.Wait()
		}
		s.Notify("t", "e")
		d.expect(t, "t=e")
		require.Equal(t, 100, probes(s))
	})
	run("off", pghub.Config{ProbeInterval: -1}, func(t *testing.T, s *fakepg.Server, d *diary) {
		s.Freeze(true)
		time.Sleep(24 * time.Hour)
		s.Freeze(false)
		s.Notify("t", "e")
		d.expect(t, "t=e")
		require.Zero(t, probes(s))
	})
}

// TestTimeUnansweredListen: a LISTEN without an answer is noticed like a probe without one, and done again by the next
// connection.
func TestTimeUnansweredListen(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, d := startTimeHub(t, s, pghub.Config{}, "t")
		c, err := hub.Consumer(context.Background(), d.handle, nil)
		require.NoError(t, err)
		release := s.Hold(func(sql string) bool { return strings.Contains(sql, "late") })
		began := time.Now()
		time.AfterFunc(time.Minute, release)
		require.NoError(t, c.Subscribe(t.Context(), "late"))
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
		require.ErrorIs(t, d.await(t, "disconnect").Advisory.Err, pghub.ErrProbe)
		require.NotZero(t, hub.Stats().Attempts)
	})
}
