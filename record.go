package pghub

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// Record is what an event of a stream has beyond a notification; see package stream.
type Record struct {
	Position Position          // of the event in the stream
	Time     time.Time         // when it was published, by the server's clock: within its transaction, so not in the order of the stream
	Headers  map[string]string // nil where there are none; a header that is not text is its JSON
	Attempt  int               // of a durable consumer: 1, and more when the event is tried again; else 0
}

// Position is a place in a stream, which is also that of an event: everything up to and with it is behind. Positions of one
// stream can be compared, and stored as text. The zero Position is before everything.
type Position struct {
	Tick int64 // the mark that made the event's transaction readable: Unix time in ms, or a little more
	Txn  int64 // the greatest ID of the event's transaction; math.MaxInt64: the end of the tick
	ID   int64
}

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p == Position{} }

// Compare is negative if p is before q, zero if they are the same, and positive if p is after q.
func (p Position) Compare(q Position) int {
	for _, pair := range [...][2]int64{{p.Tick, q.Tick}, {p.Txn, q.Txn}, {p.ID, q.ID}} {
		if pair[0] != pair[1] {
			if pair[0] < pair[1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// String gives the text that [ParsePosition], pghub.seek and pghub.locate take: 1700000000000.7.5, or 1700000000000 for
// the end of a tick.
func (p Position) String() string {
	tick := strconv.FormatInt(p.Tick, 10)
	if p.Txn == math.MaxInt64 {
		return tick
	}
	return tick + "." + strconv.FormatInt(p.Txn, 10) + "." + strconv.FormatInt(p.ID, 10)
}

// ParsePosition reads what [Position.String] gives.
func ParsePosition(text string) (Position, error) {
	p := Position{Txn: math.MaxInt64, ID: math.MaxInt64}
	parts := strings.Split(text, ".")
	numbers := []*int64{&p.Tick, &p.Txn, &p.ID}
	if len(parts) != 1 && len(parts) != 3 {
		return Position{}, fmt.Errorf("pghub: %.60q is no position of a stream", text)
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil || part[0] == '+' {
			return Position{}, fmt.Errorf("pghub: %.60q is no position of a stream", text)
		}
		*numbers[i] = int64(n)
	}
	return p, nil
}

// MarshalText gives [Position.String].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is [ParsePosition].
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}

// newRecord is the record of a message that comes from a stream, nil for others.
func newRecord(s *source.Stored) *Record {
	if s == nil {
		return nil
	}
	return &Record{Position: Position{Tick: s.Tick, Txn: s.Txn, ID: s.ID}, Time: s.At, Headers: s.Headers}
}
