package pghub

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One whose context ends while it waits for the statement before is not sent.
func TestPublisherLeavesBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		stays, leaves := s.call(t.Context(), "a", "e1"), s.call(ctx, "a", "e2")
		cancel()
		err := <-leaves
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
		st.end(nil)
		st = s.next("e1")
		ctx, cancel = context.WithCancel(t.Context())
		leaves = s.call(ctx, "a", "e3") // behind a batch
		cancel()
		err = <-leaves
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrNotConnected, "nobody has tried")
		st.end(nil)
		require.NoError(t, <-first)
		require.NoError(t, <-stays)
	})
}

// One whose context ends while its statement is under way does not wait for that, nor do others suffer.
func TestPublisherLeavesDuring(t *testing.T) {
	for name, who := range map[string]int{"leader": 0, "rider": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				first := s.call(t.Context(), "a", "e0")
				st := s.next("e0")
				var outcomes []<-chan error
				var cancels []context.CancelFunc
				for i := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					outcomes, cancels = append(outcomes, s.call(ctx, "a", fmt.Sprint("e", i+1))), append(cancels, cancel)
				}
				st.end(nil)
				require.NoError(t, <-first)
				st = s.next("e1", "e2", "e3")
				cancels[who]()
				err := <-outcomes[who]
				require.ErrorIs(t, err, ErrUnknownOutcome)
				require.ErrorIs(t, err, context.Canceled)
				require.NoError(t, st.ctx.Err(), "the statement goes on")
				later := s.call(t.Context(), "a", "e4")
				st.end(nil)
				for i, outcome := range outcomes {
					if i != who {
						require.NoError(t, <-outcome)
					}
				}
				s.next("e4").end(nil)
				require.NoError(t, <-later)
				for _, cancel := range cancels {
					cancel()
				}
			})
		})
	}
}

// A statement for one caller ends with the caller's context.
func TestPublisherLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		alone := s.call(ctx, "a", "e0")
		st := s.next("e0")
		next := s.call(t.Context(), "a", "e1")
		err := <-alone
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Error(t, st.ctx.Err())
		s.next("e1").end(nil)
		require.NoError(t, <-next)
		require.False(t, s.p.busy)

		s.hung = true
		ctx, cancel = context.WithCancel(t.Context())
		alone = s.call(ctx, "a", "e2")
		cancel()
		err = <-alone
		require.ErrorIs(t, err, ErrNotConnected)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
		require.False(t, s.p.busy)
	})
}

// Callers who wait less than PublishTimeout add up.
func TestPublisherResetsForImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		s.idle = true
		impatient := func(wait time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			outcome := s.call(ctx, "a", "e0")
			if !s.hung {
				s.next("e0")
			}
			require.ErrorIs(t, <-outcome, context.DeadlineExceeded)
		}
		impatient(publishTimeout/2 - 1)
		answered := s.call(t.Context(), "a", "e0")
		s.next("e0").end(publishRefusal("42501"))
		require.Error(t, <-answered)
		impatient(publishTimeout/2 - 1)
		require.Zero(t, s.resets, "there was an answer in between")
		impatient(1)
		require.Equal(t, 1, s.resets)
		s.hung = true
		impatient(publishTimeout / 4)
		require.Equal(t, 1, s.resets)
		impatient(publishTimeout / 4)
		require.Equal(t, 2, s.resets)
	})
}

// A batch that everybody has left is not sent, and neither are its events in the way of others.
func TestPublisherForgetsThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		ctx, cancel := context.WithCancel(t.Context())
		var leave []<-chan error
		for i := range 3*maxBatchEvents + 10 {
			leave = append(leave, s.call(ctx, "a", fmt.Sprint("e", i)))
		}
		stays := s.call(t.Context(), "a", "e1:1")
		require.Len(t, s.p.waiting, 4)
		cancel()
		for _, outcome := range leave {
			err := <-outcome
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrUnknownOutcome)
		}
		require.Len(t, s.p.waiting, 1, "with the one who stays")
		st.end(nil)
		require.NoError(t, <-first)
		s.next("e1:1").end(nil)
		require.NoError(t, <-stays)
		require.False(t, s.p.busy)
	})
}

// Whoever leaves while there is no connection yet knows that nothing is sent. If all do, the connection goes back unused.
func TestPublisherLeavesBeforeThereIsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		connected := make(chan struct{})
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		s.acquiring = func() { <-connected }
		ctx, cancel := context.WithCancel(t.Context())
		leaves, stays := s.call(ctx, "a", "e1"), s.call(t.Context(), "a", "e2")
		st.end(nil)
		require.NoError(t, <-first)
		cancel()
		err := <-leaves
		require.ErrorIs(t, err, ErrNotConnected)
		require.ErrorIs(t, err, context.Canceled)
		connected <- struct{}{}
		s.next("e2").end(nil)
		require.NoError(t, <-stays)

		ctx, cancel = context.WithCancel(t.Context())
		first = s.call(t.Context(), "a", "e3")
		connected <- struct{}{}
		st = s.next("e3")
		leaves = s.call(ctx, "a", "e4")
		st.end(nil)
		require.NoError(t, <-first)
		cancel()
		require.ErrorIs(t, <-leaves, ErrNotConnected)
		connected <- struct{}{}
		synctest.Wait()
		require.Zero(t, s.held)
		require.False(t, s.p.busy)
		require.Equal(t, uint64(3), s.p.events.Load())
		require.Zero(t, s.p.failures.Load(), "nothing was tried")
	})
}
