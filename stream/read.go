package stream

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/pghub/pghub"
)

// Start says where to begin to read.
type Start struct{ where string }

// Where to begin.
var (
	Earliest = Start{"earliest"} // at what is kept
	Latest   = Start{"latest"}   // behind all that is committed
)

// At begins behind a position.
func At(p Position) Start { return Start{p.String()} }

// Since begins with what was committed after a time, by the server's clock, or a little before it.
func Since(t time.Time) Start { return Start{t.UTC().Format(time.RFC3339Nano)} }

// String is what pghub.locate takes.
func (s Start) String() string { return s.where }

func (s Start) orEarliest() Start {
	if s.where == "" {
		return Earliest
	}
	return s
}

// Gap says that events may be missing in a stream that is read: what was wanted is not kept any more, or the position is not
// one of this server.
type Gap struct {
	From    Position  // where the reader was
	Until   Position  // where it goes on
	At      time.Time // when Until was
	Foreign bool      // From is of another server, or of this one before it was set back: a restore, a failover that lost commits
}

// GapError is the error of a [Stream.Read] or [Stream.Follow] that cannot go on without a gap.
type GapError struct{ Gap Gap }

func (e *GapError) Error() string {
	if e.Gap.Foreign {
		return fmt.Sprintf("pghub/stream: position %v is not one of this server; what it has begins behind %v", e.Gap.From, e.Gap.Until)
	}
	return fmt.Sprintf("pghub/stream: what follows position %v is not kept any more; what is begins behind %v", e.Gap.From, e.Gap.Until)
}

// Read returns the events of topics (all, if there are none) from a start to where the stream is now, in their order. It ends
// with an error, its Event being nil, if the database cannot be read, if ctx ends, or with a *[GapError] if the start is
// not kept any more. It reads page by page, up to 10,000 events and 8 MB, while the loop takes them.
func (s *Stream) Read(ctx context.Context, from Start, topics ...string) iter.Seq2[*pghub.Event, error] {
	return s.events(ctx, from, topics, false)
}

// Follow is Read that goes on: it waits for new events until ctx or the stream ends, and over lost connections. The
// error is that of ctx, ErrStopped, or a *[GapError].
func (s *Stream) Follow(ctx context.Context, from Start, topics ...string) iter.Seq2[*pghub.Event, error] {
	return s.events(ctx, from, topics, true)
}

func (s *Stream) events(ctx context.Context, from Start, topics []string, on bool) iter.Seq2[*pghub.Event, error] {
	return func(yield func(*pghub.Event, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(pghub.ErrStopped) })()
		err := s.each(ctx, from, topics, on, func(ev *pghub.Event) bool { return yield(ev, nil) })
		if cause := context.Cause(ctx); err != nil && err != errEnough && cause != nil {
			err = cause
		}
		if err != nil && err != errEnough {
			yield(nil, fmt.Errorf("pghub/stream: read: %w", err))
		}
	}
}

var errEnough = fmt.Errorf("the loop has ended")

func (s *Stream) each(ctx context.Context, from Start, topics []string, on bool, yield func(*pghub.Event) bool) error {
	for _, topic := range topics {
		if err := checkTopic(topic); err != nil {
			return err
		}
	}
	if len(topics) == 0 {
		topics = nil
	}
	at, err := s.locate(ctx, from.orEarliest())
	if err != nil {
		return err
	}
	r := s.pager.open(at, topics)
	defer r.close()
	failures := 0
	for {
		pg, err := r.next(ctx)
		switch {
		case err != nil && (!on || ctx.Err() != nil):
			return err
		case err != nil:
			s.trouble("read", err)
			if wait(ctx, s.host.Backoff(failures)) != nil {
				return ctx.Err()
			}
			failures++
			continue
		case pg.state == pageExpired || pg.state == pageForeign:
			return &GapError{r.gap(pg)}
		}
		failures = 0
		for _, ev := range pg.events {
			if !yield(ev) {
				return errEnough
			}
		}
		if pg.state != pageEnd {
			continue
		}
		if !on {
			return nil
		}
		select {
		case <-pg.tick:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gap is what a page says that could not be read.
func (r *reader) gap(pg page) Gap {
	return Gap{From: r.at, Until: pg.end, At: pg.at, Foreign: pg.state == pageForeign}
}

// Locate says which position a start has now. [Latest] is the end of the stream: behind everything that was committed before the call,
// which is made readable for that. [Earliest] is in front of what is kept, and so is a time before it. A position that [At] names comes
// back as it is: whether it is still kept is up to [Stream.Read].
//
// It asks the database by one query on a connection of the pool, which ctx bounds. An error is that of the query, or of ctx.
func (s *Stream) Locate(ctx context.Context, start Start) (Position, error) {
	at, err := s.locate(ctx, start.orEarliest())
	if err != nil {
		return Position{}, fmt.Errorf("pghub/stream: locate: %w", err)
	}
	return at, nil
}

// locate finds a position. What is committed is made readable first, so that Latest is behind all of it.
func (s *Stream) locate(ctx context.Context, start Start) (p Position, err error) {
	err = s.db.row(ctx, []any{&p.Tick, &p.Txn, &p.ID}, `SELECT tick, txn, id FROM pghub.locate($1)`, start.where)
	return p, err
}

// wait returns after d, or with the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func appendKey(b []byte, key []int64) []byte {
	for i, k := range key {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, k, 10)
	}
	return b
}
