package stream_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// Of two readers at one place the slow one gets the page that the quick one has read, and it is not up to date any more.
func TestASlowReaderSleepsOverNothing(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	quick, slow, release := newSeen(), newSeen(), make(chan struct{})
	l.follow(ctx, quick.add)
	l.follow(ctx, func(ev *pghub.Event) {
		slow.add(ev)
		if string(ev.Value) == "2" {
			<-release
		}
	})
	l.publish("a", 1)
	quick.await(t, "a 1")
	slow.await(t, "a 1")
	for n := 2; n <= 4; n++ {
		l.publish("a", n)
		quick.await(t, numbers("a", 1, n)...)
	}
	slow.await(t, numbers("a", 1, 2)...)
	l.awaitSleep() // there will be no tick that would wake anybody
	close(release)
	slow.await(t, numbers("a", 1, 4)...)
}

// A loop may end its context and leave.
func TestALoopThatCancelsAndBreaks(t *testing.T) {
	l := newLab(t, stream.Config{})
	l.publish("a", 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range l.s.Follow(ctx, stream.Earliest) {
		require.NoError(t, err)
		n++
		cancel()
		break
	}
	require.Equal(t, 1, n)
}

// unpark is heard while a consumer is busy with a backlog, and takes no more than a page at a time.
func TestUnparkWhileItWorks(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	const many = 10_100 // more than a page
	var mended atomic.Bool
	var handled atomic.Int64
	at, release := make(chan struct{}), make(chan struct{})
	_, err := l.s.DurableTx(t.Context(), "d", func(_ context.Context, _ pgx.Tx, events []*pghub.Event) error {
		switch v := string(events[0].Value); {
		case v == "0" && !mended.Load():
			return stream.Skip(errors.New("a bug"))
		case v == "1":
			close(at)
			<-release
		}
		handled.Add(int64(len(events)))
		return nil
	}, nil)
	require.NoError(t, err)
	l.publish("a", 0)
	eventually(t, "it is parked", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 1 })
	l.publish("a", 1)
	<-at
	mended.Store(true)
	l.do(`SELECT pghub.capture_all(array_agg('a'::text), array_agg('{}'::text), array_agg(n::text), array_agg(NULL::text)) FROM generate_series(2, $1::int) n`, many)
	require.Equal(t, 1, one[int](l, `SELECT pghub.unpark('d')`))
	l.awaitSleep() // the backlog is readable, and everybody has heard of unpark
	close(release)
	eventually(t, "all is handled", func() bool { return handled.Load() == many+1 })
	eventually(t, "nothing is parked", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 0 })
}

// What is replayed comes, however much it is, and in lanes too.
func TestReplayOfMoreThanAPage(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	const many = 10_100
	var handled atomic.Int64
	_, err := l.s.Durable(t.Context(), "d", func(context.Context, *pghub.Event) error { handled.Add(1); return nil }, &stream.DurableConfig{Lanes: 8})
	require.NoError(t, err)
	l.do(`SELECT pghub.capture_all(array_agg('a'::text), array_agg('{}'::text), array_agg(n::text), array_agg(NULL::text)) FROM generate_series(1, $1::int) n`, many)
	eventually(t, "all is handled", func() bool {
		return handled.Load() == many && one[int](l, `SELECT events_behind FROM pghub.stream_consumers`) == 0
	})
	require.Equal(t, many, one[int](l, `SELECT pghub.replay('d', now() - interval '1 hour')`))
	eventually(t, "all of it again", func() bool { return handled.Load() == 2*many })
	eventually(t, "nothing is left", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked`) == 0 })
}

// A consumer in lanes parks an event again that was unparked. Nobody takes it for handled.
func TestAnEventThatIsParkedAgainStays(t *testing.T) {
	l := newLab(t, stream.Config{})
	d, err := l.s.Durable(t.Context(), "d", func(context.Context, *pghub.Event) error { return stream.Skip(errors.New("never")) }, &stream.DurableConfig{Lanes: 2})
	require.NoError(t, err)
	l.publish("a", 1)
	for n := uint64(1); n <= 3; n++ {
		eventually(t, "it is parked", func() bool { return d.Stats().Parked == n })
		require.Equal(t, 1, one[int](l, `SELECT count(*) FROM pghub.parked WHERE NOT again`))
		l.do(`SELECT pghub.unpark('d')`)
	}
}

// Stop lets handlers finish that have begun, though other lanes have more to do.
func TestStopLetsHandlersFinish(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	const lanes = 2
	in, release := make(chan struct{}, lanes), make(chan struct{})
	var cancelled, handled atomic.Int64
	d, err := l.s.Durable(t.Context(), "d", func(ctx context.Context, ev *pghub.Event) error {
		if ev.Key[0] > 20 {
			t.Error("it has begun another one")
		}
		in <- struct{}{}
		<-release
		if ctx.Err() != nil {
			cancelled.Add(1)
		}
		handled.Add(1)
		return nil
	}, &stream.DurableConfig{Lanes: lanes})
	require.NoError(t, err)
	for n := range 100 { // every lane has some
		l.publish("a", n%20)
	}
	<-in
	<-in
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(context.WithoutCancel(t.Context())) }()
	eventually(t, "it is to stop", func() bool { return stream.IsStopping(d) })
	release <- struct{}{} // this lane finds more in its queue, and is not to begin it
	eventually(t, "one is done", func() bool { return handled.Load() == 1 })
	close(release)
	require.NoError(t, <-stopped)
	require.EqualValues(t, lanes, handled.Load())
	require.Zero(t, cancelled.Load())
}

// Two of one name in a process are as two in two processes: one works, the other stands by.
func TestTwoOfOneNameInAProcess(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	first, second := newSeen(), newSeen()
	a, err := l.s.Durable(t.Context(), "d", first.handle, nil)
	require.NoError(t, err)
	b, err := l.s.Durable(t.Context(), "d", second.handle, nil)
	require.NoError(t, err)
	l.publish("a", 1, 2, 3)
	first.await(t, numbers("a", 1, 3)...)
	require.True(t, a.Stats().Working)
	require.False(t, b.Stats().Working)
	require.NoError(t, a.Stop(t.Context()))
	l.publish("a", 4)
	second.await(t, "a 4")
	require.Equal(t, numbers("a", 1, 3), first.all())
}

// Stop may be called by a handler, of the consumer and of the hub.
func TestStopInAHandler(t *testing.T) {
	stops := map[string]func(l *lab, ctx context.Context, d *stream.Durable) error{
		"consumer": func(_ *lab, ctx context.Context, d *stream.Durable) error { return d.Stop(ctx) },
		"hub":      func(l *lab, ctx context.Context, _ *stream.Durable) error { return l.hub.Stop(ctx) },
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, stream.Config{Lease: forEver})
			made, ended := make(chan *stream.Durable, 1), make(chan error, 1)
			d, err := l.s.Durable(t.Context(), "d", func(ctx context.Context, _ *pghub.Event) error {
				ended <- stop(l, ctx, <-made)
				return nil
			}, nil)
			require.NoError(t, err)
			made <- d
			l.publish("a", 1)
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(patience):
				d.Close()
				require.FailNow(t, "it waits for itself")
			}
			<-d.Done()
			require.Equal(t, 0, one[int](l, `SELECT events_behind FROM pghub.stream_consumers`), "the event is acknowledged")
		})
	}
}

// Stop and Open at the same time.
func TestStopWhileItIsOpened(t *testing.T) {
	l := newLab(t, stream.Config{})
	for i := range 50 {
		hub, err := pghub.New(pghub.Config{Pool: l.pool})
		require.NoError(t, err)
		opened := make(chan error, 1)
		go func() {
			_, err := stream.Open(t.Context(), hub, stream.Config{})
			opened <- err
		}()
		<-time.After(time.Duration(i%10) * 100 * time.Microsecond) // anywhere in Open
		require.NoError(t, hub.Stop(t.Context()))
		if err := <-opened; err != nil {
			require.ErrorIs(t, err, pghub.ErrStopped)
		}
	}
}
