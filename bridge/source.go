package bridge

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pghub/pghub"
)

// Source is where a route's events come from: [FromHub], [FromStream], the WAL, or one of your own.
//
// Run brings the events that are wanted to deliver, in their order, until ctx ends; then it waits for the delivery under way,
// begins no further one of what it can bring again, stores what it has to store, and returns nil. It bounds that itself; a delivery
// ends soon when the bridge is cut off. It calls ready once, when what is committed from then on will be delivered. An error means
// that the source cannot go on: it is reported, and Run is called again, with backoff. One Source may be that of several routes,
// each with a Run of its own.
type Source interface {
	Run(ctx context.Context, w Want, deliver Deliver, ready func()) error
}

// Validator is a Source that can say, before anything is connected, that it cannot do what a route wants.
type Validator interface {
	Validate(w Want) error
}

// Parker is a Source that puts aside what the broker has refused, with the reason, so that somebody can look at it and have it sent
// again. In figures such messages are then parked, and else lost.
type Parker interface {
	Parks() bool
}

// Want is what a route wants of its source.
type Want struct {
	Route  string
	Topics []string // exactly these
	Match  []string // and those that one of these patterns matches, see Matches; with neither, all

	Lanes int // how many deliveries may be under way at once, for events with different keys: 1 is all in order
	Batch int // events of a delivery at most
}

// Item is an event that a source delivers, or a gap.
type Item struct {
	// Event is the event. If it has a Record, its Position is that of the message, and the ID of it: it must be the same whenever
	// the event is delivered. nil for a gap.
	Event *pghub.Event

	// Again says that the event comes apart from the order, because somebody wants it tried once more.
	Again bool

	// Gap says that events may be missing in this place.
	Gap *Gap
}

// Deliver brings items to the broker and returns when it has taken them, however often that has to be tried: it may take hours. Its context
// gives up. The items belong to it until it returns.
//
// nil as error: all items are settled, and the source acknowledges them; those that were refused are named, with the reason, for
// the source to park them. An error: the bridge stops, or the context has ended. The source acknowledges nothing, and its Run
// returns soon.
//
// It may be called from several goroutines at once by a source that has Want.Lanes of them.
type Deliver func(ctx context.Context, items []Item) ([]Refused, error)

// Refused is an item that the broker will never take.
type Refused struct {
	Item   int // its place among those delivered
	Reason error
}

// checkTopics refuses topics that PostgreSQL does not have. The error names the field.
func (w *Want) checkTopics() error {
	for _, topic := range w.Topics {
		if len(topic) == 0 || len(topic) > maxTopic || !utf8.ValidString(topic) || strings.ContainsRune(topic, 0) {
			return fmt.Errorf("field Topics: %w: %.70q; 1 to %d bytes of UTF-8 without NUL", pghub.ErrTopic, topic, maxTopic)
		}
	}
	return nil
}

const maxTopic = 63

// Wants reports whether a topic is among those wanted.
func (w *Want) Wants(topic string) bool {
	if len(w.Topics) == 0 && len(w.Match) == 0 {
		return true
	}
	for _, t := range w.Topics {
		if t == topic {
			return true
		}
	}
	for _, pattern := range w.Match {
		if Matches(pattern, topic) {
			return true
		}
	}
	return false
}

// Matches reports whether a topic is one of a pattern, in which * is any text, also none, and everything else is itself.
func Matches(pattern, topic string) bool {
	p, t := 0, 0
	star, from := -1, 0 // the last *, and where what it stands for has been taken to end
	for t < len(topic) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == topic[t]:
			p++
			t++
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
