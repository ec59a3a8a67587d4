package pghub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What a hook of the pool or a tracer throws is the outcome of the statement, and no more.
func TestPublisherSurvivesHooks(t *testing.T) {
	for place, want := range map[string]error{"acquiring": ErrNotConnected, "querying": ErrUnknownOutcome, "releasing": nil} {
		for way, throw := range throws {
			t.Run(place+", "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newPublishServer(t)
					hook := map[string]*func(){"acquiring": &s.acquiring, "querying": &s.querying, "releasing": &s.releasing}[place]
					first := s.call(t.Context(), "a", "e1")
					st := s.next("e1")
					outcomes := []<-chan error{s.call(t.Context(), "a", "e2"), s.call(context.Background(), "a", "e3")}
					before := map[string]int{"releasing": 1}[place] // calls of the hook before that for the batch
					*hook = func() {
						if before--; before == -1 {
							throw()
						}
					}
					st.end(nil)
					require.NoError(t, <-first)
					if place == "releasing" {
						s.next("e2", "e3").end(nil)
					}
					for _, outcome := range outcomes {
						err := <-outcome
						if want == nil {
							require.NoError(t, err, "it was sent before")
							continue
						}
						require.ErrorIs(t, err, want)
						require.ErrorIs(t, err, ErrPanic)
						if way == "panic" {
							require.ErrorIs(t, err, errThrown)
						}
					}
					reported := s.errs.await(t, func(err error) bool { return errors.Is(err, ErrPanic) })
					require.ErrorContains(t, reported, "publisher_life_test.go", "the stack says where")
					require.Zero(t, s.held)
					next := s.call(t.Context(), "a", "e4")
					s.next("e4").end(nil)
					require.NoError(t, <-next)
					s.p.close(t.Context())
					require.Equal(t, uint64(4), s.p.events.Load()+s.p.failures.Load())
				})
			})
		}
	}
}

// A tracer is told the values of the caller's context, if the caller is alone.
func TestPublisherPassesValuesOn(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		ctx := context.WithValue(t.Context(), key{}, "mine")
		outcomes := []<-chan error{s.call(ctx, "a", "e1")}
		st := s.next("e1")
		require.Equal(t, "mine", st.ctx.Value(key{}))
		for range 2 {
			outcomes = append(outcomes, s.call(ctx, "a", "e2"))
		}
		st.end(nil)
		st = s.next("e2", "e2:null")
		require.Nil(t, st.ctx.Value(key{}))
		st.end(nil)
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

// Cut off with the hub, everybody gets an answer at once.
func TestPublisherCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		start := time.Now()
		first := s.call(context.Background(), "a", "e0")
		s.next("e0")
		second, third := s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2")
		s.cut()
		err := <-first
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.NotErrorIs(t, err, ErrStopped, "which says that nothing was sent")
		require.Error(t, <-second)
		require.Error(t, <-third)
		require.Less(t, time.Since(start), time.Second)
	})
}

// Closing lets nobody in, and waits for those who are.
func TestPublisherCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		second := s.call(t.Context(), "a", "e1")
		closed := make(chan struct{})
		go func() {
			s.p.close(context.Background())
			close(closed)
		}()
		synctest.Wait()
		require.ErrorIs(t, <-s.call(t.Context(), "a", "e2"), ErrStopped)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.p.close(short) // waits no longer
		require.Error(t, short.Err())

		st.end(nil)
		require.NoError(t, <-first)
		select {
		case <-closed:
			require.Fail(t, "somebody still waits for an answer")
		default:
		}
		s.next("e1").end(nil)
		require.NoError(t, <-second)
		<-closed
		s.p.close(context.Background())
	})
	synctest.Test(t, func(t *testing.T) {
		newPublishServer(t).p.close(context.Background()) // with nobody there
	})
}
