package reliability

import (
	"slices"
	"time"

	"github.com/pghub/pghub"
)

// gap is an announced loss, by the places in the stream between which events may be missing.
type gap struct {
	from, to int           // of disconnect and reconnect; a lag is both
	until    time.Duration // events begun since then are not excused; never for a lag, whose count is checked elsewhere
}

// gapsOf returns the gaps that a stream announces. No later than what the reconnect says of itself, the latest that it
// can have been queued is when the handler got it.
func gapsOf(stream []lived) []gap {
	var gaps []gap
	lost := -1
	for i, l := range stream {
		switch l.what {
		case pghub.ActionDisconnect:
			lost = i
		case pghub.ActionReconnect:
			gaps = append(gaps, gap{lost, i, min(l.until, l.at)})
			lost = -1
		case pghub.ActionLag:
			gaps = append(gaps, gap{i, i, never})
		}
	}
	if lost >= 0 {
		gaps = append(gaps, gap{lost, len(stream), never})
	}
	return gaps
}

// judgeMissing checks that each event that was committed while the consumer was subscribed has come, or lies in an
// announced gap and was begun before that gap's end was queued.
func (o *oracle) judgeMissing(w *witness) {
	gaps := gapsOf(w.stream)
	came := o.arrivals(w)
	for _, sub := range w.subscribed {
		seen := sub.seen(w.stream)
		for source, ledger := range o.ledgers {
			first, _ := slices.BinarySearchFunc(ledger, sub.from, func(s sending, from time.Duration) int {
				return int(s.started - from)
			})
			for i := first; i < len(ledger) && ledger[i].started <= sub.to; i++ {
				s := ledger[i]
				if s.topic != sub.topic || s.fate != committed || s.ended > sub.to {
					continue
				}
				before, after, there := around(came[source], i+1, len(w.stream))
				if !there && after < seen && !excused(gaps, before, after, s.started) {
					o.violation(w, "event %d of source %d on %q, begun at %v and committed by %v, is missing without a gap between places %d and %d of the stream",
						i+1, source, s.topic, s.started, s.ended, before, after)
				}
			}
		}
	}
}

// arrival is the place in a stream of an event of some source.
type arrival struct {
	number, place int
}

// arrivals returns what came of each source, by number. Events of unknown fate may stand anywhere and are left out.
func (o *oracle) arrivals(w *witness) [][]arrival {
	came := make([][]arrival, len(o.ledgers))
	for place, l := range w.stream {
		if s := o.of(l.id); l.what == wasEvent && s != nil && s.fate == committed {
			came[l.id.source] = append(came[l.id.source], arrival{l.id.number, place})
		}
	}
	for _, c := range came {
		slices.SortStableFunc(c, byNumber)
	}
	return came
}

func byNumber(a, b arrival) int { return a.number - b.number }

// around returns the places of the last event before a number and of the first one behind it, and whether the number
// itself is there. Before the first is -1, behind the last is the end of the stream.
func around(came []arrival, number, end int) (before, after int, there bool) {
	i, there := slices.BinarySearchFunc(came, arrival{number: number}, byNumber)
	before, after = -1, end
	if i > 0 {
		before = came[i-1].place
	}
	if i < len(came) {
		after = came[i].place
	}
	return before, after, there
}

// seen returns how much of the stream must be complete: what was queued when Unsubscribe was called need not come.
func (s *subscribed) seen(stream []lived) int {
	if !s.left {
		return len(stream) + 1
	}
	n, _ := slices.BinarySearchFunc(stream, s.to, func(l lived, to time.Duration) int { return int(l.at - to) })
	return n
}

// excused tells whether an event that was begun at started is covered by a gap between two places of the stream.
func excused(gaps []gap, before, after int, started time.Duration) bool {
	first, _ := slices.BinarySearchFunc(gaps, before, func(g gap, place int) int { return g.from - place })
	for _, g := range gaps[first:] {
		if g.from > after {
			return false
		}
		if g.to <= after && started < g.until {
			return true
		}
	}
	return false
}
