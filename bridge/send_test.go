package bridge_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/internal/pgtest"
)

var errAway = errors.New("the broker is away")

// scripted starts a bridge with one route from a script to a broker, with hardly any backoff.
func scripted(t *testing.T, b *broker, change func(*bridge.Route)) (*script, *bridge.Bridge, *troubles) {
	t.Helper()
	pgtest.CheckLeaks(t)
	s, tr := newScript(), &troubles{}
	r := bridge.Route{Name: "r", Source: s, Sink: b, RetryMin: time.Nanosecond, RetryMax: time.Microsecond}
	if change != nil {
		change(&r)
	}
	return s, start(t, bridge.Config{Routes: []bridge.Route{r}, OnError: tr.add}), tr
}

func figures(b *bridge.Bridge) bridge.RouteStats { return b.Stats().Routes[0] }

// A failure has the whole batch sent again, in order; nothing is acknowledged before all is taken.
func TestAFailureIsTriedAgain(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call <= 3 {
			return errAway
		}
		return nil
	}
	s, b, tr := scripted(t, sink, nil)
	s.deliveries <- events(1, 10)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, words(1, 10), bodies(sink.all()))
	st := figures(b)
	require.EqualValues(t, 10, st.Confirmed)
	require.EqualValues(t, 10+1+1, st.Retried, "the batch, then the first message alone")
	require.EqualValues(t, st.Confirmed+st.Retried, st.Sent)
	require.False(t, st.Failing)
	require.ErrorIs(t, st.LastError, errAway)
	require.Zero(t, st.InHand)
	require.Zero(t, st.Lag)
	eventually(t, "OnError is told", func() bool { return tr.has("the broker is away") && tr.has(`route "r"`) })
}

// After a failure the first message goes alone, and then twice as many each time.
func TestAfterAFailureBatchesGrowAgain(t *testing.T) {
	sink, sizes := newBroker(), make(chan int, 100)
	sink.answer = func(_ context.Context, call int, batch []*bridge.Message) error {
		sizes <- len(batch)
		if call == 1 {
			return errAway
		}
		return nil
	}
	s, _, _ := scripted(t, sink, func(r *bridge.Route) { r.Batch = 8 })
	s.deliveries <- events(1, 20)
	require.Equal(t, answer{}, <-s.answers)
	close(sizes)
	var got []int
	for n := range sizes {
		got = append(got, n)
	}
	require.Equal(t, []int{8, 1, 2, 4, 8, 5}, got)
}

// Of a batch that was taken in part only what failed is sent again.
func TestOnlyWhatFailedIsSentAgain(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, call int, batch []*bridge.Message) error {
		if call > 1 {
			return nil
		}
		each := make(bridge.Errors, len(batch))
		each[2], each[3], each[4] = errAway, bridge.ErrNotSent, bridge.ErrNotSent
		return each
	}
	s, b, _ := scripted(t, sink, nil)
	s.deliveries <- events(1, 5)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, words(1, 5), bodies(sink.all()))
	require.EqualValues(t, 1, figures(b).Retried, "what was not tried does not count")
}

// What is refused is named to the source, with the reason, and never sent again; the others are taken.
func TestWhatIsRefusedIsNamed(t *testing.T) {
	sink := newBroker()
	tooLarge := errors.New("too large")
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		each := make(bridge.Errors, len(batch))
		for i, m := range batch {
			if m.ID == event(3).Event.Record.Position.String() {
				each[i] = bridge.Refuse(tooLarge)
			}
		}
		return each
	}
	s, b, tr := scripted(t, sink, nil)
	s.deliveries <- events(1, 5)
	got := <-s.answers
	require.NoError(t, got.err)
	require.Len(t, got.refused, 1)
	require.Equal(t, 2, got.refused[0].Item)
	require.ErrorIs(t, got.refused[0].Reason, tooLarge)
	require.Equal(t, []string{"1", "2", "4", "5"}, bodies(sink.all()))
	st := figures(b)
	require.Equal(t, []uint64{1, 0, 4}, []uint64{st.Refused, st.Parked, st.Confirmed})
	eventually(t, "OnError is told", func() bool { return tr.has("too large") && tr.has("1003.21.21") })
}

// An error that was made by Refuse refuses the whole batch.
func TestAWholeBatchIsRefused(t *testing.T) {
	sink := newBroker()
	sink.answer = func(context.Context, int, []*bridge.Message) error {
		return bridge.Refuse(errors.New("no such exchange"))
	}
	s, b, _ := scripted(t, sink, nil)
	s.deliveries <- events(1, 3)
	require.Len(t, (<-s.answers).refused, 3)
	require.EqualValues(t, 3, figures(b).Refused)
	require.EqualValues(t, 3, figures(b).Sent)
}

// With Attempts, a message that fails so often alone counts as refused, and what is behind it goes on.
func TestAttemptsEnd(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		for _, m := range batch {
			if string(m.Body) == "2" {
				return errAway
			}
		}
		return nil
	}
	s, _, _ := scripted(t, sink, func(r *bridge.Route) { r.Attempts = 3 })
	s.deliveries <- events(1, 4)
	got := <-s.answers
	require.NoError(t, got.err)
	require.Len(t, got.refused, 1)
	require.Equal(t, 1, got.refused[0].Item)
	require.ErrorIs(t, got.refused[0].Reason, errAway)
	require.Equal(t, []string{"1", "3", "4"}, bodies(sink.all()))
}

// An answer that does not fit the batch is a failure of all of it, and not taken for what it says of single messages.
func TestAnAnswerOfTheWrongLength(t *testing.T) {
	pgtest.CheckLeaks(t)
	sink := newBroker()
	sink2 := wrongLength{sink}
	s := newScript()
	b := start(t, bridge.Config{Routes: []bridge.Route{{Name: "r", Source: s, Sink: &sink2, RetryMax: time.Microsecond, RetryMin: 1}}})
	s.deliveries <- events(1, 3)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, words(1, 3), bodies(sink.all()))
	require.Zero(t, figures(b).Refused)
}

// wrongLength answers its first batch with one entry.
type wrongLength struct{ *broker }

func (w *wrongLength) Send(ctx context.Context, batch []*bridge.Message) error {
	w.mu.Lock()
	w.calls++
	first := w.calls == 1
	w.mu.Unlock()
	if first {
		return bridge.Errors{bridge.Refuse(errAway)}
	}
	return w.broker.Send(ctx, batch)
}

// A sink may want smaller batches than the route has.
func TestASinkThatWantsSmallBatches(t *testing.T) {
	pgtest.CheckLeaks(t)
	sink, s := newBroker(), newScript()
	sizes := make(chan int, 100)
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		sizes <- len(batch)
		return nil
	}
	start(t, bridge.Config{Routes: []bridge.Route{{Name: "r", Source: s, Sink: limited{sink}}}})
	s.deliveries <- events(1, 5)
	require.Equal(t, answer{}, <-s.answers)
	close(sizes)
	var got []int
	for n := range sizes {
		got = append(got, n)
	}
	require.Equal(t, []int{2, 2, 1}, got)
}

type limited struct{ *broker }

func (limited) MaxBatch() int { return 2 }

// A batch has so many bytes at most, but one message at least.
func TestABatchHasABound(t *testing.T) {
	sink, sizes := newBroker(), make(chan int, 100)
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		sizes <- len(batch)
		return nil
	}
	s, _, _ := scripted(t, sink, func(r *bridge.Route) { r.BatchBytes = 4 })
	s.deliveries <- append(events(7, 12), event(100000)) // bodies of 1 byte, of 2, and of 6
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, []int{3, 2, 1, 1}, []int{<-sizes, <-sizes, <-sizes, <-sizes})
}

// A panic of the sink is a failure like any other.
func TestAPanicOfTheSinkIsAFailure(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			panic("a bug")
		}
		return nil
	}
	s, b, _ := scripted(t, sink, nil)
	s.deliveries <- events(1, 2)
	require.Equal(t, answer{}, <-s.answers)
	require.ErrorIs(t, figures(b).LastError, pghub.ErrPanic)
}

// A Send that does not answer is given up after Timeout.
func TestASendHasATime(t *testing.T) {
	sink := newBroker()
	sink.answer = func(ctx context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	s, b, _ := scripted(t, sink, func(r *bridge.Route) { r.Timeout = time.Millisecond })
	s.deliveries <- events(1, 2)
	require.Equal(t, answer{}, <-s.answers)
	require.ErrorIs(t, figures(b).LastError, context.DeadlineExceeded)
}

// The time that a broker wants is waited for, and not the route's backoff.
func TestRetryAfterIsHeeded(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			return bridge.RetryAfter(0, errAway)
		}
		return nil
	}
	s, _, _ := scripted(t, sink, func(r *bridge.Route) { r.RetryMin, r.RetryMax = time.Hour, 1000*time.Hour })
	s.deliveries <- events(1, 2)
	require.Equal(t, answer{}, <-s.answers)
}

// Stop waits for what was handed to the sink: it is confirmed, and the source told so.
func TestStopWaitsForTheBroker(t *testing.T) {
	sink := newBroker()
	entered, confirm := make(chan struct{}), make(chan struct{})
	sink.answer = func(context.Context, int, []*bridge.Message) error {
		close(entered)
		<-confirm
		return nil
	}
	s, b, _ := scripted(t, sink, nil)
	s.deliveries <- events(1, 3)
	<-entered
	stopped := make(chan error)
	go func() { stopped <- b.Stop(context.Background()) }()
	select {
	case <-stopped:
		t.Error("Stop did not wait")
	case <-time.After(20 * time.Millisecond): // long enough to see that it does not return at once
	}
	close(confirm)
	require.NoError(t, <-stopped)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, 1, sink.closed)
	require.Len(t, sink.all(), 3)
}

// What fails while the bridge stops is not tried again, and not acknowledged.
func TestStopDoesNotTryAgain(t *testing.T) {
	sink := newBroker()
	entered, fail := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	sink.answer = func(context.Context, int, []*bridge.Message) error {
		if calls.Add(1) == 1 {
			close(entered)
		}
		<-fail
		return errAway
	}
	s, b, _ := scripted(t, sink, func(r *bridge.Route) { r.RetryMin, r.RetryMax = time.Hour, 1000*time.Hour })
	s.deliveries <- events(1, 3)
	<-entered
	stopped := make(chan error)
	go func() { stopped <- b.Stop(context.Background()) }()
	close(fail)
	require.NoError(t, <-stopped)
	require.Error(t, (<-s.answers).err)
	require.Zero(t, figures(b).Lost, "a source with positions keeps them")
	require.Zero(t, figures(b).InHand)
}

// At the end of its context Stop gives up what is under way, and says so.
func TestStopCutsOff(t *testing.T) {
	sink := newBroker()
	entered := make(chan struct{})
	sink.answer = func(ctx context.Context, _ int, _ []*bridge.Message) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}
	s, b, _ := scripted(t, sink, func(r *bridge.Route) { r.Timeout = time.Hour })
	s.deliveries <- events(1, 3)
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Stop(ctx), context.Canceled)
	<-b.Done()
	require.Error(t, (<-s.answers).err)
}

// A route whose broker does not answer holds up no other, not even in Stop's figures.
func TestADeadSinkHoldsUpNoOther(t *testing.T) {
	pgtest.CheckLeaks(t)
	dead, alive := newBroker(), newBroker()
	dead.answer = func(ctx context.Context, _ int, _ []*bridge.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}
	one, two := newScript(), newScript()
	b := start(t, bridge.Config{
		Routes: []bridge.Route{{Name: "dead", Source: one, Sink: dead, Timeout: time.Hour}, {Name: "alive", Source: two, Sink: alive}},
	})
	one.deliveries <- events(1, 100)
	for n := range int64(50) {
		two.deliveries <- events(10*n+1, 10*n+10)
		require.Equal(t, answer{}, <-two.answers)
	}
	require.Equal(t, words(1, 500), bodies(alive.all()))
	st := b.Stats().Routes[0]
	require.EqualValues(t, 100, st.InHand)
	require.Positive(t, st.Lag)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, b.Stop(ctx))
	<-b.Done()
}

// An OnError that blocks, or panics, holds up no route.
func TestASlowOnErrorHoldsUpNothing(t *testing.T) {
	pgtest.CheckLeaks(t)
	sink, s := newBroker(), newScript()
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call < 1000 {
			return errAway
		}
		return nil
	}
	release, told := make(chan struct{}), atomic.Int64{}
	start(t, bridge.Config{
		Routes: []bridge.Route{{Name: "r", Source: s, Sink: sink, RetryMin: 1, RetryMax: 1}},
		OnError: func(error) {
			if told.Add(1) == 1 {
				<-release
				panic("a bug")
			}
		},
	})
	s.deliveries <- events(1, 2)
	require.Equal(t, answer{}, <-s.answers)
	close(release)
	eventually(t, "it is told more", func() bool { return told.Load() > 1 })
}

// A sink may take fewer messages at once than a batch has: the rest follows, in order, and nothing has failed.
func TestASinkThatTakesSomeAtATime(t *testing.T) {
	sink := newBroker()
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		each := make(bridge.Errors, len(batch))
		for i := 3; i < len(each); i++ {
			each[i] = bridge.ErrNotSent
		}
		return each
	}
	s, b, tr := scripted(t, sink, func(r *bridge.Route) { r.RetryMin, r.RetryMax = time.Hour, 1000*time.Hour })
	s.deliveries <- events(1, 10)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, words(1, 10), bodies(sink.all()))
	require.Zero(t, figures(b).Retried)
	require.False(t, tr.has("failed"))
}
