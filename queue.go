package pghub

import (
	"sync"
	"sync/atomic"
	"time"
)

// queue is what waits for one consumer, in the order of the stream.
//
// It holds runs: slices of events of one topic that arrived together, which all consumers of the topic share and nobody
// changes. So a burst costs a consumer one slice, however long it is. An advisory is a run of its own. So is a lag, which
// stands exactly where events are missing. Neither is ever dropped.
//
// Whoever has the consumer's turn takes the events out: a worker, or a loop over Events. It calls next for each event and
// done after it. Two turns never overlap: a queue that asks to be scheduled does not ask again until next has returned nil.
type queue struct {
	// What a lone event touches stands together: with 10,000 consumers, each cache line counts.
	mu        sync.Mutex
	scheduled bool // somebody has the turn, or is going to have it
	sealed    bool // takes nothing further: final is set
	finished  bool // final has been handed out
	void      bool // what is left in hand is unsubscribed
	lagging   bool // events were dropped since the queue was empty
	pressing  bool // the brake, since somebody last came for events
	overflow  Overflow
	ring      ring
	events    int           // in the ring, without advisories
	lead      []run         // advisories that go before the ring: events that stood between them were dropped
	handTopic string        // of the events in hand
	handEnd   uint64        // delivered, once all that is in hand is
	handSince time.Duration // when the events in hand arrived

	// The hand is what was taken out with one lock. It is owned by whoever has the turn.
	hand run
	at   int // in hand: the next event

	// recall says that what is left in hand is void.
	recall atomic.Bool
	// delivered counts events and advisories that the handler has returned from. Whoever has the turn stores it.
	delivered atomic.Uint64

	crowded int // events; the brake is pressed when there are more
	brake   *brake
	limit   int // of events
	batch   int // how many of them may be in hand
	dropped uint64
	final   *Event // comes when nothing else is left
}

const (
	maxBatch = 256 // events in hand
	crowd    = 512 // events; a queue that holds no more is never crowded
)

func newQueue(limit int, overflow Overflow, b *brake) queue {
	// Having several in hand saves locks, but they no longer give way to newer ones: a short queue does without.
	return queue{limit: limit, batch: min(max(limit/64, 1), maxBatch), overflow: overflow, crowded: crowdedAt(limit), brake: b}
}

func crowdedAt(limit int) int { return max(limit/2, crowd) }

// next returns the next event, or nil: none is waiting, and the turn is over.
func (q *queue) next() *Event {
	if (q.at == len(q.hand) || q.recall.Load()) && !q.fetch() {
		return nil
	}
	ev := q.hand[q.at]
	q.at++
	return ev
}

// done says that the handler has returned from the event that next gave last.
func (q *queue) done() { q.delivered.Store(q.delivered.Load() + 1) }

// fetch fills the hand. If nothing is waiting it returns false. The turn is over then: the queue asks to be scheduled when
// something comes, and the hand is somebody else's at once.
func (q *queue) fetch() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fetchLocked()
}

func (q *queue) fetchLocked() bool {
	if q.recall.Load() {
		q.recall.Store(false)
		if q.overflowedLocked() && !q.void {
			q.dropped += uint64(len(q.hand) - q.at)
		}
		q.void = false
	}
	if q.pressing {
		q.pressing = false
		q.brake.release()
	}
	q.hand, q.at = q.takeLocked(), 0
	if len(q.lead)+q.ring.n == 0 {
		q.lagging = false
		q.ring.giveBack()
	}
	if q.events <= q.limit/4 {
		q.crowded = crowdedAt(q.limit)
	}
	q.scheduled = len(q.hand) > 0
	q.handEnd = q.delivered.Load() + uint64(len(q.hand))
	if q.scheduled {
		q.handTopic = q.hand[0].Topic
		if q.hand[0].isResyncMark() {
			q.handEnd-- // no event: the handler does not see it
		}
	}
	return q.scheduled
}

// takeLocked takes out what goes into the hand.
func (q *queue) takeLocked() run {
	switch {
	case len(q.lead)+q.ring.n > 0:
		return q.firstLocked()
	case q.sealed && !q.finished:
		q.finished = true
		if q.overflowedLocked() {
			closed := *q.final.Advisory
			closed.Dropped = q.dropped
			return run{newAdvisory(closed)}
		}
		return run{q.final}
	}
	return nil
}

// overflowedLocked reports that the queue is sealed because it was full.
func (q *queue) overflowedLocked() bool { return q.sealed && q.final.Advisory.Err == ErrSlowConsumer }

// firstLocked takes the first run off, or as much of it as may be in hand.
func (q *queue) firstLocked() (first run) {
	if len(q.lead) > 0 {
		first = q.lead[0]
		if q.lead = q.lead[1:]; len(q.lead) == 0 {
			q.lead = nil
		}
	} else if front := q.ring.at(0); len(front.run) > q.batch {
		first, front.run = front.run[:q.batch], front.run[q.batch:]
		q.handSince = front.arrived
	} else {
		first, q.handSince = front.run, front.arrived
		q.ring.pop()
	}
	switch {
	case first.isLag():
		return run{newLag(first[0].Advisory.Dropped)}
	case !first.isAdvisory():
		q.events -= len(first)
	}
	return first
}

// abandon empties the queue for good. It is called by whoever has the turn, and ends that.
func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sealed, q.finished, q.scheduled = true, true, false
	q.lead, q.ring, q.events = nil, ring{}, 0
	q.hand, q.at, q.handEnd = nil, 0, q.delivered.Load()
}

// put appends runs of events that arrived at a time, as in slot; where the queue is full, at the price that the overflow policy names. wake: the consumer
// has to be scheduled. overflowed: events were dropped, for the first time since the queue was empty.
func (q *queue) put(arrived time.Duration, runs ...run) (wake, overflowed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed {
		return false, false
	}
	arriving := 0
	for _, r := range runs {
		arriving += len(r)
	}
	over := arriving - (q.limit - q.events)
	if over <= 0 {
		q.appendLocked(arrived, runs, arriving)
		if q.events > q.crowded {
			q.crowded += q.limit / 8
			q.pressing = true
			q.brake.press()
		}
		return q.scheduleLocked(), false
	}

	q.dropped += uint64(over)
	overflowed, q.lagging = !q.lagging, true
	switch q.overflow {
	case DropOldest:
		old := min(over, q.events)
		q.dropLocked(old)
		if over > old { // more arrive than there is room at all
			q.lagLocked(over - old)
			runs = skip(runs, over-old)
		}
		q.appendLocked(arrived, runs, arriving-(over-old))
	case DropNewest:
		q.appendLocked(arrived, runs, arriving-over)
		q.lagLocked(over)
	case CloseConsumer: // what is queued is lost too, and so is what arrives
		q.dropped += uint64(q.events + arriving - over)
		q.sealLocked(newAdvisory(Advisory{Action: ActionClose, Final: true, Err: ErrSlowConsumer}), true)
	}
	return q.scheduleLocked(), overflowed
}

// advise appends an advisory.
func (q *queue) advise(ev *Event) (wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed {
		return false
	}
	q.ring.push(run{ev}, 0)
	return q.scheduleLocked()
}

// seal makes final the last event, behind all that is queued or, with discard, instead of it. Only the first call
// chooses the event; a later one may still discard what waits before it.
func (q *queue) seal(final *Event, discard bool) (wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sealLocked(final, discard)
	return q.scheduleLocked()
}

func (q *queue) sealLocked(final *Event, discard bool) {
	if !q.sealed {
		q.sealed, q.final = true, final
	}
	if discard && !q.finished {
		q.lead, q.ring, q.events = nil, ring{}, 0
		q.recall.Store(true)
	}
}

// revoke removes the events of unsubscribed topics.
func (q *queue) revoke(topics ...string) {
	gone := newTopicSet(topics)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events -= q.ring.remove(gone)
	if q.handEnd > q.delivered.Load() && gone.has(q.handTopic) {
		q.void = true
		q.recall.Store(true)
	}
}

// current is the topic of the event that the handler has, if it has one, the event's place in the stream, and how many
// events wait behind it.
func (q *queue) current() (topic string, busy bool, place uint64, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place = q.delivered.Load()
	if inHand := int(q.handEnd - place); inHand > 0 {
		if q.recall.Load() {
			inHand = 1
		}
		return q.handTopic, true, place, inHand - 1 + q.events
	}
	return "", false, place, q.events
}

// oldest is when the oldest event arrived that the handler has not returned from, as in slot. waits: there is one.
func (q *queue) oldest() (arrived time.Duration, waits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handEnd > q.delivered.Load() && q.handTopic != "" {
		return q.handSince, true
	}
	for i := range q.ring.n {
		if s := q.ring.at(i); s.topic != "" {
			return s.arrived, true
		}
	}
	return 0, false
}

func (q *queue) droppedSoFar() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *queue) scheduleLocked() (wake bool) {
	wake = !q.scheduled && !q.finished
	q.scheduled = q.scheduled || wake
	return wake
}

// appendLocked appends the first n events of runs.
func (q *queue) appendLocked(arrived time.Duration, runs []run, n int) {
	q.events += n
	for _, r := range runs {
		if r = r[:min(n, len(r))]; len(r) == 0 {
			return
		}
		n -= len(r)
		q.ring.push(r, arrived)
	}
}

// dropLocked drops the n oldest events. What is missing is counted by a lag in its place, one in each stretch between
// advisories.
func (q *queue) dropLocked(n int) {
	q.events -= n
	for n > 0 {
		front := q.ring.at(0)
		if front.isAdvisory() {
			q.lead = append(q.lead, front.run)
			q.ring.pop()
			continue
		}
		drop := min(n, len(front.run))
		n -= drop
		q.lead = addLag(q.lead, drop)
		if drop < len(front.run) {
			front.run = front.run[drop:]
		} else {
			q.ring.pop()
		}
	}
}

// lagLocked records that n events are missing behind all that is queued.
func (q *queue) lagLocked(n int) {
	switch {
	case q.ring.n == 0:
		q.lead = addLag(q.lead, n)
	case q.ring.at(q.ring.n - 1).isLag():
		q.ring.at(q.ring.n - 1).add(n)
	default:
		q.ring.push(newLagRun(n), 0)
	}
}
