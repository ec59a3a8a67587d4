package pghub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// What arrives while a statement is under way goes together in the next one, in the order of arrival. Nobody lingers.
func TestPublisherGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e1")
		st := s.next("e1")
		var others []<-chan error
		for i := 2; i <= 6; i++ {
			others = append(others, s.call(t.Context(), "a", fmt.Sprint("e", i)))
		}
		st.end(nil)
		require.NoError(t, <-first)
		st = s.next("e2", "e3", "e4", "e5", "e6")
		late := s.call(context.Background(), "b", "e7")
		for _, other := range others {
			require.Empty(t, other, "an answer before the commit")
		}
		st.end(nil)
		for _, other := range others {
			require.NoError(t, <-other)
		}
		s.next("e7").end(nil)
		require.NoError(t, <-late)
		require.False(t, s.p.busy)
		require.Equal(t, uint64(7), s.p.events.Load())
		require.Equal(t, uint64(3), s.p.batches.Load())
		require.Zero(t, s.p.failures.Load())
	})
}

// PostgreSQL folds equal notifications of a transaction: in a batch there are none.
func TestPublisherTellsEqualEventsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		var outcomes []<-chan error
		call := func(topic, payload string, pad func(string, int) string) {
			outcomes = append(outcomes, s.callPadded(t.Context(), topic, payload, pad))
		}
		call("a", "e0", padKeyValue)
		st := s.next("e0")
		call("a", "e1", padKeyValue)
		call("a", "e1", padKeyValue)
		call("b", "e1", padKeyValue) // another topic
		call("a", "e2:{}", padKeyValue)
		call("a", "e2:{}", padKeyValue)
		call("a", "e1:null ", nil)       // in the way of the next one
		call("a", "e1", padKeyValue)     // so that this takes the one behind it
		call("a", "e1:null\n", nil)      // text that nobody has in this batch
		call("a", "e2:{} ", padKeyValue) // another codec would not, but it could
		call("a", "e1", nil)             // text as it is: next batch
		call("a", "e3", nil)             // in the order of arrival
		call("a", "e1", nil)             // and once more
		st.end(nil)
		st = s.next("e1", "e1:null", "e1", "e2:{}", "e2:{} ", "e1:null ", "e1:null\t", "e1:null\n", "e2:{}  ")
		require.Equal(t, []string{"a", "a", "b", "a", "a", "a", "a", "a", "a"}, st.topics)
		st.end(nil)
		s.next("e1", "e3").end(nil)
		st = s.next("e1")
		call("a", "e2:{}", padKeyValue)
		call("a", "e1:null", nil)
		st.end(nil)
		s.next("e2:{}", "e1:null").end(nil) // what earlier batches held is of no concern
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

// What would not fit with padding is sent by itself.
func TestPublisherPadsWithinTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		full := "e:" + strings.Repeat("7", maxPayload-2)
		almost := full[:maxPayload-1]
		outcomes := []<-chan error{s.call(t.Context(), "a", "e0")}
		st := s.next("e0")
		for range 2 {
			outcomes = append(outcomes, s.call(t.Context(), "a", full), s.call(t.Context(), "a", almost))
		}
		st.end(nil)
		s.next(full, almost).end(nil)
		s.next(full, almost).end(nil)
		outcomes = append(outcomes, s.call(t.Context(), "a", "e0"))
		st = s.next("e0")
		for range 2 {
			outcomes = append(outcomes, s.call(t.Context(), "a", almost))
		}
		st.end(nil)
		s.next(almost, almost+" ").end(nil)
		for _, outcome := range outcomes {
			require.NoError(t, <-outcome)
		}
	})
}

func TestPublisherBatchLimits(t *testing.T) {
	for name, c := range map[string]struct {
		payload func(i int) string
		calls   int
		batch   int
	}{
		"events":                 {func(i int) string { return fmt.Sprint("e", i) }, maxBatchEvents + 100, maxBatchEvents},
		"bytes":                  {func(i int) string { return fmt.Sprintf("e%d:%7000d", i, 1)[:7000] }, 160, maxBatchBytes / 7000},
		"bytes, to the last one": {func(i int) string { return fmt.Sprintf("e%d:%4096d", i, 1)[:4096] }, 300, maxBatchBytes / 4096},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				first := s.call(t.Context(), "a", "e0")
				st := <-s.statements
				var outcomes []<-chan error
				for i := range c.calls {
					outcomes = append(outcomes, s.call(t.Context(), "a", c.payload(i+1)))
				}
				st.end(nil)
				st = <-s.statements
				require.Len(t, st.payloads, c.batch)
				require.Equal(t, c.payload(1), st.payloads[0])
				st.end(nil)
				st = <-s.statements
				require.Len(t, st.payloads, c.calls-c.batch)
				require.Equal(t, c.payload(c.batch+1), st.payloads[0])
				st.end(nil)
				require.NoError(t, <-first)
				for _, outcome := range outcomes {
					require.NoError(t, <-outcome)
				}
			})
		})
	}
}

// An event that the server refuses harms nobody whom it happens to ride with.
func TestPublisherIsolatesTheGuilty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		first := s.call(t.Context(), "a", "e0")
		st := s.next("e0")
		good, bad, lost := s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2"), s.call(t.Context(), "a", "e3")
		st.end(nil)
		require.NoError(t, <-first)
		s.next("e1", "e2", "e3").end(publishRefusal("22023"))
		s.next("e1").end(nil)
		s.next("e2", "e3").end(publishRefusal("22023"))
		s.next("e2").end(publishRefusal("22023"))
		s.next("e3").end(io.ErrUnexpectedEOF)
		require.NoError(t, <-good)
		var refusal *pgconn.PgError
		require.ErrorAs(t, <-bad, &refusal)
		require.ErrorIs(t, <-lost, ErrUnknownOutcome)
		require.Equal(t, uint64(2), s.p.events.Load())
		require.Equal(t, uint64(2), s.p.failures.Load())
	})
}

// The error says what became of the event: refused, not sent, or unknown. It is the same for all of a batch.
func TestPublisherNamesOutcomes(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		err  error
		want error
		not  []error
	}{
		"refused":                 {publishRefusal("42501"), refused, []error{ErrUnknownOutcome, ErrNotConnected}},
		"queue full":              {publishRefusal("54000"), refused, []error{ErrUnknownOutcome, ErrNotConnected}},
		"cancelled at the server": {fmt.Errorf("%w: %w", context.Canceled, publishRefusal("57014")), refused, []error{ErrUnknownOutcome}},
		"server went down":        {&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "57P01"}, ErrUnknownOutcome, []error{ErrNotConnected}},
		"server crashed":          {&pgconn.PgError{SeverityUnlocalized: "PANIC", Code: "58030"}, ErrUnknownOutcome, nil},
		"old server's error":      {&pgconn.PgError{Severity: "FEHLER", Code: "42501"}, ErrUnknownOutcome, nil},
		"connection lost":         {io.ErrUnexpectedEOF, ErrUnknownOutcome, []error{ErrNotConnected}},
		"nothing written":         {publishSafe{}, ErrNotConnected, []error{ErrUnknownOutcome}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPublishServer(t)
				outcomes := []<-chan error{s.call(t.Context(), "a", "e0")}
				st := s.next("e0")
				outcomes = append(outcomes, s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2"))
				st.end(c.err)
				s.next("e1", "e2").end(c.err)
				for _, outcome := range outcomes {
					err := <-outcome
					require.ErrorIs(t, err, c.err, "the cause is told")
					if c.want != refused {
						require.ErrorIs(t, err, c.want)
					}
					for _, not := range c.not {
						require.NotErrorIs(t, err, not)
					}
				}
				require.Equal(t, uint64(3), s.p.failures.Load())
			})
		})
	}
}

// Where there is no connection nothing is sent; what the server says to that is told.
func TestPublisherNamesWhyNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPublishServer(t)
		for _, cause := range []error{
			io.ErrUnexpectedEOF,
			&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "28P01"},
			publishRefusal("22023"), // to a statement of a hook
		} {
			s.away = nil
			first := s.call(t.Context(), "a", "e0")
			st := s.next("e0")
			outcomes := []<-chan error{s.call(t.Context(), "a", "e1"), s.call(t.Context(), "a", "e2")}
			s.away = cause
			st.end(nil)
			require.NoError(t, <-first)
			for _, outcome := range outcomes {
				err := <-outcome
				require.ErrorIs(t, err, ErrNotConnected)
				require.ErrorIs(t, err, cause)
				require.NotErrorIs(t, err, ErrUnknownOutcome)
			}
		}
		require.Equal(t, uint64(6), s.p.failures.Load())
	})
}

type publishSafe struct{}

func (publishSafe) Error() string { return "busy" }

func (publishSafe) SafeToRetry() bool { return true }
