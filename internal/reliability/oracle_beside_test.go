package reliability

import (
	"slices"
	"time"

	"github.com/pghub/pghub"
)

// reference is a consumer whose queue has no bound and that has its topics all the time: others of the same hub are
// checked beside it.
type reference struct {
	*witness
	topics map[string]bool // that it has
	place  map[eventID]int // in the stream
	rank   map[eventID]int // among the events of its topic
}

func newReference(w *witness) *reference {
	r := &reference{witness: w, topics: map[string]bool{}, place: map[eventID]int{}, rank: map[eventID]int{}}
	count := map[string]int{}
	for i, l := range w.stream {
		switch l.what {
		case pghub.ActionSubscribe:
			r.topics[l.topic] = true
		case wasEvent:
			r.place[l.id], r.rank[l.id] = i, count[l.topic]
			count[l.topic]++
		}
	}
	return r
}

// judgeBeside checks a consumer that has all topics from the same moment on: it lived through the same, except that a lag
// stands exactly where, and for exactly as many events as, it says.
func (o *oracle) judgeBeside(w *witness, r *reference) {
	rest := withoutNotes(r.stream)
	for _, l := range withoutNotes(w.stream) {
		if l.what == pghub.ActionLag {
			for range l.dropped {
				if len(rest) == 0 || rest[0].what != wasEvent {
					o.violation(w, "%s counts more than is missing there", l)
					return
				}
				rest = rest[1:]
			}
			continue
		}
		if len(rest) == 0 {
			o.violation(w, "%s is beyond the end of %s", l, r.name)
			return
		}
		if other := rest[0]; other.what != l.what || other.id != l.id || other.topic != l.topic {
			o.violation(w, "%s where %s has %s", l, r.name, other)
			return
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		o.violation(w, "ends where %s goes on with %s", r.name, rest[0])
	}
}

func withoutNotes(stream []lived) []lived {
	return slices.DeleteFunc(slices.Clone(stream), func(l lived) bool {
		return l.what == wasResync || l.what == wasUnsubscribed
	})
}

// judgeRuns checks a consumer that comes and goes: from each subscribe advisory on it gets every event of the topic that
// the reference gets, until it unsubscribes.
func (o *oracle) judgeRuns(w *witness, r *reference) {
	next := map[string]int{} // rank that must come next
	for _, l := range w.stream {
		switch l.what {
		case pghub.ActionSubscribe:
			delete(next, l.topic)
		case pghub.ActionLag:
			clear(next)
		case wasEvent:
			if !r.topics[l.topic] {
				continue
			}
			rank, there := r.rank[l.id]
			if !there {
				o.violation(w, "%s did not come to %s", l, r.name)
				continue
			}
			if want, running := next[l.topic]; running && rank != want {
				o.violation(w, "%s is number %d of its topic for %s, number %d was to come", l, rank, r.name, want)
			}
			next[l.topic] = rank + 1
		}
	}
}

// judgeDrained checks a consumer that has left by Drain: what the reference was given before the call of Drain was queued
// for this one as well, and is delivered.
func (o *oracle) judgeDrained(w *witness, r *reference, drained time.Duration) {
	last := map[string]int{} // place in the reference of the last event of a topic
	for _, l := range w.stream {
		if l.what == wasEvent {
			last[l.topic] = r.place[l.id]
		}
	}
	for _, sub := range w.subscribed {
		if !r.topics[sub.topic] {
			continue
		}
		first, some := last[sub.topic]
		if !some {
			first, _ = slices.BinarySearchFunc(r.stream, sub.from, func(l lived, from time.Duration) int { return int(l.at - from) })
			first--
		}
		for _, l := range r.stream[first+1:] {
			if l.at >= drained {
				break
			}
			s := o.of(l.id)
			if l.what == wasEvent && l.topic == sub.topic && s != nil && (some || s.started > sub.from) {
				o.violation(w, "%s, which %s had before, was not delivered by Drain", l, r.name)
				break
			}
		}
	}
}
