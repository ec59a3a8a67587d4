package pghub

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A server that does not answer is not waited for without end: others wait behind it. Its pool is emptied, so that other
// dead connections do not answer in its place.
func TestPublisherTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		for i := range 3 { // each statement has its own time
			start := time.Now()
			first := s.call(context.Background(), "a", "e0")
			st := s.next("e0")
			second := s.call(context.Background(), "a", "e1")
			err := <-first
			require.Equal(t, publishTimeout, time.Since(start))
			require.ErrorIs(t, err, ErrUnknownOutcome)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no answer within 5s")
			require.Error(t, st.ctx.Err())
			require.Equal(t, i+1, s.resets)
			st = s.next("e1")
			time.Sleep(publishTimeout - time.Nanosecond)
			synctest.Wait()
			require.NoError(t, st.ctx.Err())
			st.end(nil)
			require.NoError(t, <-second)
			require.Error(t, st.ctx.Err(), "the context of a statement ends with it")
			require.Equal(t, i+1, s.resets)
		}
	})
}

// A wait for a connection is the shorter one: it ends in time though the timer was set for a statement before it.
func TestPublisherTimesOutAfterALongStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		send := func(takes time.Duration) {
			outcome := s.call(t.Context(), "a", "e0")
			st := s.next("e0")
			time.Sleep(takes)
			st.end(nil)
			require.NoError(t, <-outcome)
		}
		send(0)
		time.Sleep(publishTimeout/2 - 2) // the timer, set for the first, goes off in the second
		send(4)
		s.hung = true
		start := time.Now()
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e1"), ErrNotConnected)
		require.Equal(t, publishTimeout/2, time.Since(start))
		s.hung = false
		send(0)
		require.NotZero(t, s.p.limit.at)
		s.p.close(t.Context())
		require.Zero(t, s.p.limit.at, "the timer is let go of")
	})
}

// Nor is a pool that comes up with no connection. Only idle connections can be what kept it.
func TestPublisherTimesOutWithoutConnection(t *testing.T) {
	for _, idle := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newPublishServer(t)
			s.hung, s.idle = true, idle
			start := time.Now()
			err := <-s.call(context.Background(), "a", "e0")
			require.Equal(t, publishTimeout/2, time.Since(start))
			require.Equal(t, publishTimeout/2, s.limits, "the pool is told: it destroys what it then still waits for")
			require.ErrorIs(t, err, ErrNotConnected)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no connection of the pool within 2.5s")
			require.Equal(t, map[bool]int{true: 1, false: 0}[idle], s.resets)
			s.hung = false
			next := s.call(t.Context(), "a", "e1")
			s.next("e1").end(nil)
			require.NoError(t, <-next)
		})
	}
}

// Behind those who wait for a connection in vain others have a try of their own: a reset may have helped. When that is in vain too, all
// are told at once.
func TestPublisherGivesUpForThoseBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		var outcomes []<-chan error
		for range 4 {
			outcomes = append(outcomes, s.call(t.Context(), "a", strings.Repeat("x", maxBatchBytes))) // a batch each
		}
		s.hung = true
		start := time.Now()
		st.end(nil)
		require.NoError(t, <-first)
		for i, at := range []time.Duration{publishTimeout / 2, publishTimeout, publishTimeout, publishTimeout} {
			require.ErrorIs(t, <-outcomes[i], ErrNotConnected)
			require.Equal(t, at, time.Since(start), "call %d", i)
		}
		s.hung = false
		next := s.call(t.Context(), "a", "e1")
		s.next("e1").end(nil)
		require.NoError(t, <-next)
	})
}

// A time-out resets the pool, and nothing else does.
func TestPublisherResetsForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		s.idle = true
		for _, err := range []error{nil, io.ErrUnexpectedEOF, publishRefusal("42501"), context.DeadlineExceeded} {
			outcome := s.call(t.Context(), "a", "e0")
			s.next("e0").end(err)
			require.ErrorIs(t, <-outcome, err)
		}
		s.away = io.ErrUnexpectedEOF
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e0"), ErrNotConnected)
		s.away = nil
		outcome := s.call(t.Context(), "a", "e0")
		s.next("e0")
		time.Sleep(publishTimeout - 1)
		s.cut()
		err := <-outcome
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorIs(t, err, errCutOff)
		s.hung = true
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e0"), ErrNotConnected)
		require.Zero(t, s.resets)
	})
}

// A time-out in the middle of what is sent apart ends all of it: none of the rest is tried, nor sent.
func TestPublisherGivesUpTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		outcomes := s.batchOf(t, 8)
		s.next("e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8").end(publishRefusal("22P05"))
		s.next("e1", "e2", "e3", "e4").end(publishRefusal("22P05"))
		s.next("e1", "e2").end(nil)
		time.Sleep(publishTimeout - time.Nanosecond) // the time of a statement begins with it
		s.next("e3", "e4").end(publishRefusal("22P05"))
		st := s.next("e3")
		time.Sleep(publishTimeout - time.Nanosecond)
		synctest.Wait()
		require.NoError(t, st.ctx.Err())
		time.Sleep(time.Nanosecond)
		require.NoError(t, <-outcomes[0])
		require.NoError(t, <-outcomes[1])
		require.ErrorIs(t, <-outcomes[2], ErrUnknownOutcome)
		for _, outcome := range outcomes[3:] {
			err := <-outcome
			require.ErrorIs(t, err, ErrNotConnected)
			require.ErrorContains(t, err, "no answer within 5s")
			require.NotErrorIs(t, err, ErrUnknownOutcome)
		}
		require.Equal(t, 1, s.resets)
		require.Equal(t, uint64(2), s.p.events.Load())
		require.Equal(t, uint64(6), s.p.failures.Load())
	})
}

// A pool is told of the earlier one of two deadlines, that of the caller and that of the step.
func TestPublisherTellsTheDeadline(t *testing.T) {
	now := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), now.Add(time.Minute))
	defer cancel()
	for step, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: time.Minute} {
		deadline, limited := withDeadline{ctx, now.Add(step)}.Deadline()
		require.True(t, limited)
		require.Equal(t, now.Add(want), deadline)
		deadline, limited = withDeadline{context.Background(), now.Add(step)}.Deadline()
		require.True(t, limited)
		require.Equal(t, now.Add(step), deadline)
	}
}
