package reliability

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pghub/pghub"
)

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// lived is one thing that a consumer lived through, in the order of its stream. Times are counted from the oracle's epoch.
type lived struct {
	what    pghub.Action // wasEvent, wasResync, wasUnsubscribed, or that of an advisory
	at      time.Duration
	topic   string
	id      eventID       // of an event
	since   time.Duration // of a reconnect: when the lost connection was last known to work
	until   time.Duration // of a reconnect: when it was queued, as it says itself
	dropped uint64        // of a lag
}

// What a consumer lives through besides advisories.
const (
	wasEvent        pghub.Action = "event"
	wasResync       pghub.Action = "resync"       // Resync has returned nil
	wasUnsubscribed pghub.Action = "unsubscribed" // the handler itself has returned from Unsubscribe
)

// eventID names an event: the number-th that a source has published, counted from 1.
type eventID struct {
	source, number int
}

// fate is what the publisher of an event knows of it.
type fate int

const (
	unknown   fate = iota // it may have been sent, and may still be
	committed             // it was committed between started and ended
	unsent                // it was not, and never will be
)

// sending is what the ledger of a source says of one event.
type sending struct {
	topic          string
	started, ended time.Duration
	fate           fate
}

// ledger is what one source has published, in order; the event with number n stands at n-1.
type ledger []sending

// subscribed is a time during which a consumer was subscribed to a topic: from the return of Subscribe to the call of
// Unsubscribe, or to that of Stop.
type subscribed struct {
	topic    string
	from, to time.Duration
	left     bool // by Unsubscribe, which discards what is queued
}

// witness is a consumer with all that is known of its life.
type witness struct {
	name       string
	stream     []lived
	subscribed []subscribed
	beforehand bool // it was made before Start: its stream begins with connect
	resyncs    bool // it has a Resync
}

// oracle judges streams. It is exact: what it calls a violation breaks a promise.
type oracle struct {
	ledgers    []ledger
	violations []string
}

const mostViolations = 50 // shown

func (o *oracle) violation(w *witness, format string, args ...any) {
	o.violations = append(o.violations, w.name+": "+fmt.Sprintf(format, args...))
}

// report returns the violations, not too many of them.
func (o *oracle) report() []string {
	if more := len(o.violations) - mostViolations; more > 0 {
		return append(slices.Clone(o.violations[:mostViolations]), fmt.Sprintf("and %d more", more))
	}
	return o.violations
}

// of returns the ledger's entry of an event, nil if nobody has published it.
func (o *oracle) of(id eventID) *sending {
	if id.source < 0 || id.source >= len(o.ledgers) || id.number < 1 || id.number > len(o.ledgers[id.source]) {
		return nil
	}
	return &o.ledgers[id.source][id.number-1]
}

// judge checks all that can be said of one consumer's life by the ledgers.
func (o *oracle) judge(w *witness) {
	o.judgeShape(w)
	o.judgeResync(w)
	o.judgeOrder(w)
	o.judgeMissing(w)
}

// judgeShape checks how advisories and events follow each other: connect, if any, comes first; disconnect and reconnect
// take turns, with no event between the two; an event comes only while its topic is subscribed; the last one is final.
func (o *oracle) judgeShape(w *witness) {
	away, final := w.beforehand, false
	topics := map[string]bool{}
	for i, l := range w.stream {
		if final {
			o.violation(w, "%s after the final event", l)
			return
		}
		switch l.what {
		case wasEvent:
			if away {
				o.violation(w, "%s while there is no connection", l)
			}
			if !topics[l.topic] {
				o.violation(w, "%s without a subscription", l)
			}
		case pghub.ActionConnect:
			if i > 0 || !w.beforehand {
				o.violation(w, "%s in place %d", l, i)
			}
			away = false
		case pghub.ActionDisconnect, pghub.ActionReconnect:
			if lost := l.what == pghub.ActionDisconnect; lost == away {
				o.violation(w, "%s out of turn in place %d", l, i)
			} else {
				away = lost
			}
			if l.until < l.since {
				o.violation(w, "%s says %v to %v", l, l.since, l.until)
			}
			if l.until > l.at {
				o.violation(w, "%s came before it was queued, as it says, at %v", l, l.until)
			}
		case pghub.ActionSubscribe:
			if away {
				o.violation(w, "%s while there is no connection", l)
			}
			topics[l.topic] = true
		case wasUnsubscribed:
			topics[l.topic] = false
		case pghub.ActionLag:
			if l.dropped == 0 {
				o.violation(w, "%s of nothing", l)
			}
		case pghub.ActionStop, pghub.ActionClose:
			final = true
		}
	}
	if !final {
		o.violation(w, "the stream has no end")
	}
}

// judgeResync checks that each gap is followed by one successful Resync before anything else, and no Resync comes
// without a gap.
func (o *oracle) judgeResync(w *witness) {
	due := false
	for _, l := range w.stream {
		switch {
		case l.what == wasResync && !due:
			o.violation(w, "%s without a gap", l)
		case l.what != wasResync && due && l.what != pghub.ActionStop && l.what != pghub.ActionClose:
			o.violation(w, "%s before Resync", l)
		}
		due = w.resyncs && (l.what == pghub.ActionReconnect || l.what == pghub.ActionLag)
	}
}

// judgeOrder checks that each event was published, comes once and in the order of commits. That order is known for the
// events of one source, and for any two of which one was committed before the other was begun.
func (o *oracle) judgeOrder(w *witness) {
	seen := map[eventID]bool{}
	last := make([]int, len(o.ledgers))
	var latest time.Duration // begin of an event that has come
	for _, l := range w.stream {
		if l.what != wasEvent {
			continue
		}
		s := o.of(l.id)
		switch {
		case s == nil:
			o.violation(w, "%s was never published", l)
			continue
		case s.topic != l.topic:
			o.violation(w, "%s was published on %q", l, s.topic)
		case s.fate == unsent:
			o.violation(w, "%s was said not to have been sent", l)
		case seen[l.id]:
			o.violation(w, "%s comes twice", l)
		}
		seen[l.id] = true
		latest = max(latest, s.started)
		if s.fate != committed {
			continue // may have been committed at any time
		}
		if l.id.number < last[l.id.source] {
			o.violation(w, "%s comes behind number %d", l, last[l.id.source])
		}
		if s.ended < latest {
			o.violation(w, "%s, committed by %v, comes behind one begun at %v", l, s.ended, latest)
		}
		last[l.id.source] = max(last[l.id.source], l.id.number)
	}
}

func (l lived) String() string {
	switch l.what {
	case wasEvent:
		return fmt.Sprintf("event %d of source %d on %q at %v", l.id.number, l.id.source, l.topic, l.at)
	case pghub.ActionLag:
		return fmt.Sprintf("lag of %d at %v", l.dropped, l.at)
	case pghub.ActionSubscribe, wasUnsubscribed:
		return fmt.Sprintf("%s %q at %v", l.what, l.topic, l.at)
	}
	return fmt.Sprintf("%s at %v", l.what, l.at)
}
