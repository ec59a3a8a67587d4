package bridge_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/stream"
)

// route is one with hardly any backoff.
func route(name string, source bridge.Source, sink bridge.Sink, topics ...string) bridge.Route {
	return bridge.Route{Name: name, Source: source, Topics: topics, Sink: sink, RetryMin: time.Nanosecond, RetryMax: time.Microsecond}
}

// routes is a configuration whose trouble goes to the test's log.
func routes(t *testing.T, tr *troubles, list ...bridge.Route) bridge.Config {
	return bridge.Config{Routes: list, OnError: func(err error) {
		t.Log(err)
		tr.add(err)
	}}
}

// What is notified behind Start reaches the broker, in order.
func TestFromHub(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	b := start(t, routes(t, &troubles{}, route("r", bridge.FromHub(l.hub, nil), sink, "a", "b")))
	var want []string
	for n := range 20 {
		topic := []string{"a", "b", "other"}[n%3]
		require.NoError(t, l.hub.Notify(t.Context(), topic, nil, n))
		if topic != "other" {
			want = append(want, words(n, n)...)
		}
	}
	sink.await(t, want...)
	eventually(t, "they are settled", func() bool { return figures(b).InHand == 0 })
	require.EqualValues(t, len(want), figures(b).Confirmed)
}

// A connection that is lost is a gap, in its place, and what is committed behind it arrives.
func TestAHubThatWasAwayIsAGap(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.gaps = true
	tr := &troubles{}
	b := start(t, routes(t, tr, route("r", bridge.FromHub(l.hub, nil), sink, "a")))
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 1))
	sink.await(t, "1")
	_, err := l.pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int32(l.hub.Stats().PID))
	require.NoError(t, err)
	eventually(t, "the gap arrives", func() bool { return len(sink.all()) == 2 })
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 2))
	eventually(t, "what follows arrives", func() bool { return len(sink.all()) == 3 })
	all := sink.all()
	require.NotNil(t, all[1].Gap)
	require.Contains(t, all[1].Gap.Reason, "connection")
	require.Equal(t, "2", string(all[2].Body))
	require.EqualValues(t, 1, figures(b).Gaps)
	eventually(t, "OnError is told", func() bool { return tr.has("events may be missing") })
}

// While a gap waits for a broker that is away, other consumers of the hub read their state again, though only one may at a time.
func TestAGapThatWaitsHoldsUpNoResync(t *testing.T) {
	l := newLab(t)
	h, err := pghub.New(pghub.Config{Pool: l.pool, ReconnectMin: time.Millisecond, ReconnectMax: 100 * time.Millisecond, ResyncLimit: 1})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, h.Stop(ctx))
	})
	require.NoError(t, h.Start(t.Context()))
	sink := newBroker()
	sink.gaps = true
	entered := make(chan struct{}, 1)
	sink.answer = func(ctx context.Context, _ int, _ []*bridge.Message) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	r := route("r", bridge.FromHub(h, nil), sink, "a")
	r.Timeout = time.Hour
	b, err := bridge.New(routes(t, &troubles{}, r))
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = b.Stop(ctx) // cut off
		<-b.Done()
	})
	told := make(chan struct{}, 10)
	released := make(chan struct{})
	_, err = h.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil && ev.Advisory.Action == pghub.ActionReconnect {
			<-released // its Resync comes behind this, when the bridge has begun
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}, Resync: func(context.Context, pghub.Gap) error {
		told <- struct{}{}
		return nil
	}})
	require.NoError(t, err)
	_, err = l.pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int32(h.Stats().PID))
	require.NoError(t, err)
	await(t, entered)
	close(released)
	await(t, told)
}

func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		require.Fail(t, "waited in vain")
	}
}

// A gap that a publisher announces is one, behind the event that says so.
func TestAGapThatIsAnnounced(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.gaps = true
	b := start(t, routes(t, &troubles{}, route("r", bridge.FromHub(l.hub, nil), sink, "a")))
	require.NoError(t, l.hub.NotifyPayload(t.Context(), "a", `e:{"pghub":"gap","since":"2026-01-02T03:04:05Z"}`))
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 1))
	eventually(t, "all three arrive", func() bool { return len(sink.all()) == 3 })
	all := sink.all()
	require.Equal(t, []bool{false, true, false}, []bool{all[0].Gap != nil, all[1].Gap != nil, all[2].Gap != nil})
	require.Equal(t, 2026, all[1].Gap.Since.Year())
	require.EqualValues(t, 1, figures(b).Gaps)
}

// A sink that is away for so long that the queue runs over is a gap with an exact number, and the hub's other consumers get all.
func TestASinkThatIsTooSlowForAHub(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.gaps = true
	release, entered := make(chan struct{}), make(chan struct{})
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			close(entered)
			<-release
		}
		return nil
	}
	start(t, routes(t, &troubles{}, route("r", bridge.FromHub(l.hub, &bridge.HubConfig{QueueSize: 10}), sink, "a")))
	var mu sync.Mutex
	heard := 0
	_, err := l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			mu.Lock()
			heard++
			mu.Unlock()
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 0))
	<-entered
	for n := 1; n <= 50; n++ {
		require.NoError(t, l.hub.Notify(t.Context(), "a", nil, n))
	}
	eventually(t, "the other consumer has all", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard == 51
	})
	close(release)
	eventually(t, "the last one arrives", func() bool {
		all := sink.all()
		return len(all) > 0 && string(all[len(all)-1].Body) == "50"
	})
	events, dropped := 0, uint64(0)
	for _, m := range sink.all() {
		if m.Gap != nil {
			dropped += m.Gap.Dropped
		} else {
			events++
		}
	}
	require.EqualValues(t, 51, uint64(events)+dropped)
	require.Positive(t, dropped)
}

// When the bridge stops, what waits in the hub's queue still goes to the broker.
func TestStopDrainsAHub(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	release, entered := make(chan struct{}), make(chan struct{})
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			close(entered)
			<-release
		}
		return nil
	}
	b := start(t, routes(t, &troubles{}, route("r", bridge.FromHub(l.hub, nil), sink, "a")))
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 1))
	<-entered
	for n := 2; n <= 10; n++ {
		require.NoError(t, l.hub.Notify(t.Context(), "a", nil, n))
	}
	eventually(t, "they wait", func() bool { return l.hub.Stats().Queued >= 9 })
	stopped := make(chan error)
	go func() { stopped <- b.Stop(context.Background()) }()
	eventually(t, "the consumer takes no more", func() bool { return l.hub.Stats().Topics == 0 })
	close(release)
	require.NoError(t, <-stopped)
	require.Equal(t, words(1, 10), bodies(sink.all()))
}

// What a hub's events were lost when the bridge stopped beside a dead broker is counted.
func TestWhatIsLostIsCounted(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	entered := make(chan struct{}, 100)
	sink.answer = func(context.Context, int, []*bridge.Message) error {
		entered <- struct{}{}
		return errAway
	}
	r := route("r", bridge.FromHub(l.hub, nil), sink, "a")
	r.RetryMin, r.RetryMax = time.Hour, time.Hour
	tr := &troubles{}
	b := start(t, routes(t, tr, r))
	require.NoError(t, l.hub.Notify(t.Context(), "a", nil, 1))
	<-entered
	for n := 2; n <= 10; n++ {
		require.NoError(t, l.hub.Notify(t.Context(), "a", nil, n))
	}
	eventually(t, "they wait", func() bool { return l.hub.Stats().Queued >= 9 })
	stop(t, b)
	require.EqualValues(t, 10, figures(b).Lost)
	require.True(t, tr.has("lost"))
}

// A stream's events go out in batches, in order; another bridge with the same route goes on behind what was confirmed.
func TestFromStream(t *testing.T) {
	l := newLab(t)
	l.publish("a", 1, 25)
	sink := newBroker()
	sizes := make(chan int, 100)
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		sizes <- len(batch)
		return nil
	}
	r := route("r", bridge.FromStream(l.s, nil), sink)
	r.Batch = 10
	b := start(t, routes(t, &troubles{}, r))
	sink.await(t, words(1, 25)...)
	require.Equal(t, []int{10, 10, 5}, []int{<-sizes, <-sizes, <-sizes})
	stop(t, b)

	l.publish("a", 26, 30)
	start(t, routes(t, &troubles{}, r))
	sink.await(t, words(1, 30)...)
	require.Equal(t, 30, len(sink.all()), "after a graceful stop nothing comes twice")
}

// Of two bridges with the same route one works. When it stops, the other goes on behind what was confirmed, at once.
func TestTwoBridgesWithOneRoute(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	cfg := routes(t, &troubles{}, route("r", bridge.FromStream(l.s, nil), sink))
	first, second := start(t, cfg), start(t, cfg)
	l.publish("a", 1, 10)
	sink.await(t, words(1, 10)...)
	stop(t, first)
	l.publish("a", 11, 20)
	sink.await(t, words(1, 20)...)
	stop(t, second)
	require.EqualValues(t, 20, figures(first).Confirmed+figures(second).Confirmed)
	require.Len(t, sink.all(), 20)
}

// A bridge that stands by ends, though the database has no answer for it.
func TestStopWhileTheDatabaseIsMute(t *testing.T) {
	l := newLab(t)
	worker := start(t, routes(t, &troubles{}, route("r", bridge.FromStream(l.s, nil), newBroker())))
	source := bridge.FromStream(l.s, &bridge.StreamConfig{Lease: 100 * time.Millisecond}) // it asks so often
	bridge.DrainFor(source, time.Millisecond)
	b, err := bridge.New(routes(t, &troubles{}, route("r", source, newBroker())))
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	tx, err := l.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(t.Context(), `SELECT FROM pghub.consumers WHERE name = 'bridge.r' FOR UPDATE`)
	require.NoError(t, err)
	eventually(t, "it waits for an answer", func() bool {
		return one[int](l, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pghub.attach%' AND datname = current_database()`) > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Stop(ctx), context.Canceled)
	await(t, b.Done())
	require.NoError(t, tx.Rollback(t.Context()))
	stop(t, worker)
}

// While the broker is away the position stays in front of what it has not taken, and the stream goes on.
func TestTheStreamsPositionWaitsForTheBroker(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.answer = func(context.Context, int, []*bridge.Message) error { return errAway }
	l.publish("a", 1, 5)
	b := start(t, routes(t, &troubles{}, route("r", bridge.FromStream(l.s, nil), sink)))
	eventually(t, "it is tried again and again", func() bool { return figures(b).Retried > 20 })
	st := figures(b)
	require.True(t, st.Failing)
	require.Equal(t, 5, st.InHand)
	require.Positive(t, st.Lag)
	stop(t, b)
	mended := newBroker()
	start(t, routes(t, &troubles{}, route("r", bridge.FromStream(l.s, nil), mended)))
	mended.await(t, words(1, 5)...)
}

// What is refused for good is parked in the stream, with the reason; unparked, it comes as Again.
func TestWhatIsRefusedIsParked(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	mended := false
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		each := make(bridge.Errors, len(batch))
		for i, m := range batch {
			if string(m.Body) == "3" && !mended {
				each[i] = bridge.Refuse(errors.New("no such queue"))
			}
		}
		return each.OrNil()
	}
	for _, lanes := range []int{1, 4} {
		mended = false
		l.publish("a", 1, 5)
		r := route("r", bridge.FromStream(l.s, nil), sink)
		r.Lanes = lanes
		b := start(t, routes(t, &troubles{}, r))
		eventually(t, "four arrive, and one is parked", func() bool { return figures(b).Parked == 1 && figures(b).Confirmed == 4 })
		eventually(t, "the database has it", func() bool {
			return one[int](l, `SELECT count(*) FROM pghub.parked WHERE error LIKE '%no such queue%'`) == 1
		})
		require.EqualValues(t, 1, figures(b).Refused)
		stop(t, b)
		mended = true
		before := len(sink.all())
		b = start(t, routes(t, &troubles{}, r))
		require.EqualValues(t, 1, one[int](l, `SELECT pghub.unpark('bridge.r')`))
		eventually(t, "it arrives", func() bool { return len(sink.all()) > before })
		stop(t, b)
		came := sink.all()[before:]
		if lanes == 1 { // with several it may be read anew while the database is told that it is done
			require.Len(t, came, 1)
		}
		for _, m := range came {
			require.Equal(t, "3", string(m.Body))
			require.Equal(t, lanes == 1, m.Again)
		}
	}
}

// A route may stop in front of what is refused, and tries again until somebody has mended it: nothing is parked.
func TestARouteThatHalts(t *testing.T) {
	l := newLab(t)
	l.publish("a", 1, 3)
	sink, tr := newBroker(), &troubles{}
	var mended atomic.Bool
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		each := make(bridge.Errors, len(batch))
		for i, m := range batch {
			if string(m.Body) == "2" && !mended.Load() {
				each[i] = bridge.Refuse(errors.New("no such queue"))
			}
		}
		return each.OrNil()
	}
	r := route("r", bridge.FromStream(l.s, &bridge.StreamConfig{Poison: stream.Halt}), sink)
	r.Batch = 1
	b := start(t, routes(t, tr, r))
	eventually(t, "it halts", func() bool { return tr.has("halted at an event") })
	mended.Store(true)
	sink.await(t, words(1, 3)...)
	require.Zero(t, figures(b).Parked)
	require.Zero(t, one[int](l, `SELECT count(*) FROM pghub.parked`))
}

// Lanes send at the same time, each in order; one that fails does not hold up the others.
func TestLanes(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		if batch[0].Key[0] == 1 {
			return errAway
		}
		return nil
	}
	r := route("r", bridge.FromStream(l.s, nil), sink)
	r.Lanes, r.RetryMin, r.RetryMax = 64, time.Millisecond, 10*time.Millisecond
	start(t, routes(t, &troubles{}, r))
	for n := range 40 {
		require.NoError(t, l.s.Publish(t.Context(), "a", []int64{int64(n % 4)}, n))
	}
	apart := func() map[int64][]string {
		by := make(map[int64][]string)
		for _, m := range sink.all() {
			by[m.Key[0]] = append(by[m.Key[0]], string(m.Body))
		}
		return by
	}
	done := func() (n int) {
		for key, list := range apart() {
			if key != 1 {
				n += min(len(list), 10)
			}
		}
		return n
	}
	eventually(t, "lanes of other keys go on", func() bool { return done() >= 10 }) // 64 lanes: hardly all four keys share one
	for key, list := range apart() {
		for i, body := range list {
			require.Equal(t, words(int(key)+4*i, int(key)+4*i)[0], body)
		}
	}
}

// Match takes topics by pattern, beside those that are named, and passes over the others.
func TestMatch(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	r := route("r", bridge.FromStream(l.s, &bridge.StreamConfig{From: stream.Earliest, Name: "by pattern"}), sink, "exact")
	r.Match = []string{"orders.*"}
	b := start(t, routes(t, &troubles{}, r))
	for i, topic := range []string{"orders", "orders.1", "exact", "exactly", "orders.", "x.orders.1"} {
		require.NoError(t, l.s.Publish(t.Context(), topic, nil, i))
	}
	sink.await(t, "1", "2", "4")
	stop(t, b)
	require.Equal(t, 1, one[int](l, `SELECT count(*) FROM pghub.consumers WHERE name = 'by pattern'`))
}

// A stream that has lost what was not read is a gap.
func TestAStreamWithAGap(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	sink.gaps = true
	tr := &troubles{}
	foreign := stream.At(pghub.Position{Tick: 1700000000000, Txn: 1, ID: 1})
	b := start(t, routes(t, tr, route("r", bridge.FromStream(l.s, &bridge.StreamConfig{From: foreign}), sink)))
	eventually(t, "the gap arrives", func() bool { return len(sink.all()) == 1 })
	require.NotNil(t, sink.all()[0].Gap)
	require.EqualValues(t, 1, figures(b).Gaps)
	l.publish("a", 1, 1)
	eventually(t, "what follows arrives", func() bool { return len(sink.all()) == 2 })
}

// A source that has ended is run again; Start says which route is not ready.
func TestASourceThatCannotGoOn(t *testing.T) {
	l := newLab(t)
	sink := newBroker()
	ended, err := pghub.New(pghub.Config{Pool: l.pool})
	require.NoError(t, err)
	require.NoError(t, ended.Stop(t.Context()))
	tr := &troubles{}
	b, err := bridge.New(routes(t, tr, route("broken", bridge.FromHub(ended, nil), sink, "a")))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error)
	go func() { started <- b.Start(ctx) }()
	eventually(t, "it is tried again", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return strings.Count(strings.Join(tr.list, "\n"), "run again") > 2
	})
	cancel()
	require.ErrorContains(t, <-started, `"broken" is not ready`)
	<-b.Done()
}
