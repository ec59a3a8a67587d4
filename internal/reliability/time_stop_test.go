package reliability

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// timeLife is a hub that lives through what a hub lives through: it connects, subscribes and unsubscribes, is idle long
// enough to be probed, loses its connection, connects again. Stop meets it somewhere on its way.
type timeLife struct {
	server  *fakepg.Server
	hub     *pghub.Hub
	diary   *diary
	living  sync.WaitGroup // of run
	results chan error     // of Run
}

func newTimeLife(t *testing.T, s *fakepg.Server, cfg pghub.Config) *timeLife {
	t.Helper()
	cfg.ListenConfig = s.Config()
	hub, err := pghub.New(cfg)
	require.NoError(t, err)
	return &timeLife{server: s, hub: hub, diary: newDiary(), results: make(chan error, 10)}
}

// run goes the whole way, unless Stop comes between.
func (l *timeLife) run(t *testing.T) {
	c, err := l.hub.Consumer(context.Background(), l.diary.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
	if err != nil {
		l.results <- err
		return
	}
	go func() { l.results <- l.hub.Run(context.Background()) }()
	time.Sleep(time.Nanosecond) // until it has done what it can
	ctx := context.Background()
	for _, step := range []func() error{
		func() error { return c.Subscribe(ctx, "b", "c") },
		func() error { return c.Unsubscribe(ctx, "b") },
		func() error { // two probes
			select {
			case <-time.After(25 * time.Second):
			case <-c.Done():
			}
			return nil
		},
		func() error { l.server.Kill(); return nil },
		func() error { return c.Subscribe(ctx, "d") }, // during the outage
		func() error { l.server.Terminate(); return nil },
		func() error { return c.Subscribe(ctx, "e") },
	} {
		if err := step(); err != nil {
			require.ErrorIs(t, err, pghub.ErrStopped)
			return
		}
	}
}

// requireStopped checks that everything has come to its end, with stop as the consumer's last event.
func (l *timeLife) requireStopped(t *testing.T) {
	t.Helper()
	l.living.Wait()
	synctest.Wait()
	require.Equal(t, pghub.StateStopped, l.hub.State())
	require.NoError(t, stopWithin(t, l.hub, time.Hour), "a second call")
	require.NoError(t, <-l.results, "Run, after Stop")
	words := l.diary.all()
	require.Equal(t, "stop", words[len(words)-1])
	require.ErrorIs(t, l.hub.Run(t.Context()), pghub.ErrStopped)
	_, err := l.hub.Consumer(context.Background(), l.diary.handle, nil)
	require.ErrorIs(t, err, pghub.ErrStopped)
}

// TestTimeStopAtEachQuery: Stop comes while the server holds the answer to any one of all the queries of a life, and
// whatever then becomes of that query.
func TestTimeStopAtEachQuery(t *testing.T) {
	total := 0
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		l := newTimeLife(t, s, pghub.Config{})
		l.run(t)
		require.NoError(t, stopWithin(t, l.hub, time.Hour))
		l.requireStopped(t)
		total = len(s.Queries())
		require.GreaterOrEqual(t, total, 11)
	})
	for _, outcome := range []struct {
		name string
		then func(s *fakepg.Server, release func())
	}{
		{"it is never answered", func(*fakepg.Server, func()) {}},
		{"it is answered later", func(_ *fakepg.Server, release func()) { time.Sleep(time.Second); release() }},
		{"the connection is lost", func(s *fakepg.Server, _ func()) { time.Sleep(time.Second); s.Kill() }},
		{"the server ends", func(s *fakepg.Server, _ func()) { s.RefuseDials(errors.New("refused")); s.Terminate() }},
	} {
		for _, interval := range []time.Duration{10 * time.Second, -1} {
			for n := range total {
				t.Run(fmt.Sprintf("%s, query %d, probe %v", outcome.name, n, interval), func(t *testing.T) {
					scripted(t, func(t *testing.T, s *fakepg.Server) {
						l := newTimeLife(t, s, pghub.Config{ProbeInterval: interval})
						seen := 0
						held := make(chan struct{})
						release := s.Hold(func(string) bool {
							seen++
							if seen-1 == n {
								close(held)
							}
							return seen-1 == n
						})
						l.living.Go(func() { l.run(t) })
						select {
						case <-held:
						case <-time.After(time.Hour): // without probes there are fewer queries
						}
						synctest.Wait()
						began := time.Now()
						stopped := make(chan error, 1)
						go func() {
							limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
							defer cancel()
							stopped <- l.hub.Stop(limit)
						}()
						synctest.Wait()
						outcome.then(s, release)
						err := <-stopped
						if interval > 0 { // an unanswered query ends the session, and with it the wait
							require.NoError(t, err)
							require.Less(t, time.Since(began), 20*time.Second)
						} else if err != nil {
							require.ErrorIs(t, err, context.DeadlineExceeded)
						}
						l.requireStopped(t)
					})
				})
			}
		}
	}
}

// TestTimeStopInEachState: Stop comes while the hub waits for something that does not come.
func TestTimeStopInEachState(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, s *fakepg.Server, l *timeLife)
	}{
		{"dialing", func(_ *testing.T, s *fakepg.Server, l *timeLife) { s.HangDials(true) }},
		{"waiting to dial again", func(_ *testing.T, s *fakepg.Server, _ *timeLife) { s.RefuseDials(errors.New("refused")) }},
		{"starting up", func(_ *testing.T, s *fakepg.Server, _ *timeLife) { s.Freeze(true) }},
		{"refused as a standby", func(_ *testing.T, s *fakepg.Server, _ *timeLife) { s.SetStandby(true) }},
	} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, again %v", test.name, again), func(t *testing.T) {
				scripted(t, func(t *testing.T, s *fakepg.Server) {
					l := newTimeLife(t, s, pghub.Config{})
					if again { // after a connection that has listened
						_, err := l.hub.Consumer(context.Background(), l.diary.handle, &pghub.ConsumerConfig{Topics: []string{"a"}})
						require.NoError(t, err)
						go func() { l.results <- l.hub.Run(context.Background()) }()
						l.diary.expect(t, "connect", "subscribe a")
						test.before(t, s, l)
						s.Kill()
						l.diary.expect(t, "disconnect")
					} else {
						test.before(t, s, l)
						l.living.Go(func() { l.run(t) })
					}
					time.Sleep(3 * time.Second)
					synctest.Wait()
					began := time.Now()
					require.NoError(t, stopWithin(t, l.hub, time.Hour))
					require.Zero(t, time.Since(began), "there is nothing to wait for")
					l.requireStopped(t)
				})
			})
		}
	}
}

// TestTimeStopDuringResync: a Resync that fails for ever does not keep Stop from cutting it off.
func TestTimeStopDuringResync(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		tr := newTrouble()
		hub, d := newTimeResync(t, s, pghub.Config{OnError: tr.note}, func(context.Context, pghub.Gap) error { return errors.New("no such luck") })
		s.Kill()
		tr.await(t, 5, func(err error) bool { return err.Error() != "" && hub.State() == pghub.StateListening })
		limit, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, hub.Stop(limit), context.DeadlineExceeded)
		d.await(t, "stop")
		synctest.Wait()
		require.Equal(t, pghub.StateStopped, hub.State())
	})
}

func newTimeResync(t *testing.T, s *fakepg.Server, cfg pghub.Config, resync func(context.Context, pghub.Gap) error) (*pghub.Hub, *diary) {
	t.Helper()
	cfg.ListenConfig = s.Config()
	hub, err := pghub.New(cfg)
	require.NoError(t, err)
	d := newDiary()
	_, err = hub.Consumer(context.Background(), d.handle, &pghub.ConsumerConfig{Topics: []string{"a"}, Resync: resync})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	return hub, d
}
