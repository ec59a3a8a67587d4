package pghub

import (
	"maps"
	"sync"
	"sync/atomic"
)

// queue is what waits for one consumer, in the order of the stream.
//
// It holds runs: slices of events of one topic that arrived together, which all consumers of the topic share and nobody
// changes. So a burst costs a consumer one slice, however long it is. An advisory is a run of its own, and so is a lag,
// which stands exactly where events are missing; neither is ever dropped.
type queue struct {
	// What a lone event touches stands together: with 10,000 consumers, each cache line counts.
	mu        sync.Mutex
	scheduled bool   // a worker has the consumer, or will have it
	sealed    bool   // takes nothing further: final is set
	finished  bool   // final has been taken
	lagging   bool   // events were dropped since the queue was empty
	voidAll   bool   // all that was in hand is void
	lead      []run  // advisories that go before the ring: events that stood between them were dropped
	ring      ring   // all else
	events    int    // in the ring, without advisories
	hand      run    // what the worker has fetched and not yet finished
	handBase  uint64 // delivered when hand[0] was the next

	// recall tells the worker, between two events, that some of those in its hand are void.
	recall atomic.Bool
	// delivered counts events and advisories that the handler has returned from; stored by the consumer's worker only.
	delivered atomic.Uint64

	crowded    int           // events; somebody waits for relief when there are more
	relief     chan struct{} // closed when somebody comes for more
	limit      int           // of events
	batch      int           // how many of them a worker may have in hand
	overflow   Overflow
	dropped    uint64
	final      *Event              // comes when nothing else is left
	voidTopics map[string]struct{} // unsubscribed while something was in hand
}

const (
	maxBatch = 256 // events in hand; it is then another consumer's turn
	crowd    = 512 // events; a queue that holds no more is never crowded
)

func newQueue(limit int, overflow Overflow) queue {
	// Having several in hand saves locks, but they no longer give way to newer ones: a short queue does without.
	return queue{limit: limit, batch: min(max(limit/64, 1), maxBatch), overflow: overflow, crowded: crowdedAt(limit)}
}

func crowdedAt(limit int) int { return max(limit/2, crowd) }

// put appends runs of events; where the queue is full, at the price that the overflow policy names. wake: the consumer
// has to be scheduled. overflowed: events were dropped, for the first time since the queue was empty. relief, if not nil:
// the queue has become half full, or another eighth fuller; it is closed as soon as somebody comes for more.
func (q *queue) put(runs ...run) (wake, overflowed bool, relief <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed {
		return false, false, nil
	}
	arriving := 0
	for _, r := range runs {
		arriving += len(r)
	}
	over := arriving - (q.limit - q.events)
	if over <= 0 {
		q.appendLocked(runs, arriving)
		if q.events > q.crowded {
			q.crowded += q.limit / 8
			if q.relief == nil {
				q.relief = make(chan struct{})
			}
			relief = q.relief
		}
		return q.scheduleLocked(), false, relief
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
		q.appendLocked(runs, arriving-(over-old))
	case DropNewest:
		q.appendLocked(runs, arriving-over)
		q.lagLocked(over)
	case CloseConsumer:
		q.sealLocked(newAdvisory(Advisory{Action: ActionClose, Final: true, Err: ErrSlowConsumer, Dropped: uint64(over)}), true)
	}
	return q.scheduleLocked(), overflowed, nil
}

// advise appends an advisory.
func (q *queue) advise(ev *Event) (wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed {
		return false
	}
	q.ring.push(run{ev})
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
		q.voidAll = true
		q.recall.Store(true)
	}
}

// revoke removes what waits of unsubscribed topics.
func (q *queue) revoke(topics ...string) {
	gone := make(map[string]struct{}, len(topics))
	for _, t := range topics {
		gone[t] = struct{}{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := 0
	for i := range q.ring.n {
		r := *q.ring.at(i)
		if _, void := gone[r[0].Topic]; void { // an advisory has none
			q.events -= len(r)
			continue
		}
		*q.ring.at(kept) = r
		kept++
	}
	q.ring.truncate(kept)
	if len(q.hand) > 0 {
		if q.voidTopics == nil {
			q.voidTopics = gone
		} else {
			maps.Copy(q.voidTopics, gone)
		}
		q.recall.Store(true)
	}
}

// take returns what the worker is to deliver next. It is empty when nothing is left; the consumer is then no longer
// scheduled.
func (q *queue) take() run {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.relief != nil {
		close(q.relief)
		q.relief = nil
	}
	var hand run
	if done := int(q.delivered.Load() - q.handBase); done < len(q.hand) {
		hand = q.siftLocked(q.hand[done:]) // the worker that fetched these ended within a turn
	}
	switch {
	case len(hand) > 0:
	case len(q.lead)+q.ring.n > 0:
		hand = q.nextLocked()
	case q.sealed && !q.finished:
		hand = run{q.final}
		q.finished = true
	}
	if len(q.lead)+q.ring.n == 0 {
		q.lagging = false
		q.ring.giveBack()
	}
	if q.events <= q.limit/4 {
		q.crowded = crowdedAt(q.limit)
	}
	q.scheduled = len(hand) > 0
	q.holdLocked(hand)
	return hand
}

// nextLocked takes the first run off, or as much of it as may be in hand.
func (q *queue) nextLocked() (next run) {
	if len(q.lead) > 0 {
		next = q.lead[0]
		if q.lead = q.lead[1:]; len(q.lead) == 0 {
			q.lead = nil
		}
	} else if front := q.ring.at(0); len(*front) > q.batch {
		next, *front = (*front)[:q.batch], (*front)[q.batch:]
	} else {
		next = *front
		q.ring.pop()
	}
	switch {
	case next.isLag():
		return run{newLag(next[0].Advisory.Dropped)}
	case !next.isAdvisory():
		q.events -= len(next)
	}
	return next
}

// sift removes what has become void from what is left in the worker's hand.
func (q *queue) sift(hand run) run {
	q.mu.Lock()
	defer q.mu.Unlock()
	hand = q.siftLocked(hand)
	q.holdLocked(hand)
	return hand
}

func (q *queue) siftLocked(hand run) run {
	var kept run // the run itself is not ours to change
	for _, ev := range hand {
		if ev == q.final || !q.voidAll && !q.voidLocked(ev) {
			kept = append(kept, ev)
		}
	}
	return kept
}

func (q *queue) voidLocked(ev *Event) bool {
	_, void := q.voidTopics[ev.Topic]
	return void
}

// holdLocked notes what is in the worker's hand; all of it is valid now.
func (q *queue) holdLocked(hand run) {
	q.hand, q.handBase = hand, q.delivered.Load()
	q.voidTopics, q.voidAll = nil, false
	q.recall.Store(false)
}

// current is the event that the handler has, if any, its place in the stream, and how many events wait.
func (q *queue) current() (ev *Event, place uint64, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place = q.delivered.Load()
	if i := place - q.handBase; i < uint64(len(q.hand)) {
		ev = q.hand[i]
		waiting = len(q.hand) - int(i) - 1
	}
	return ev, place, waiting + q.events
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
func (q *queue) appendLocked(runs []run, n int) {
	q.events += n
	for _, r := range runs {
		if r = r[:min(n, len(r))]; len(r) == 0 {
			return
		}
		n -= len(r)
		q.ring.push(r)
	}
}

// dropLocked drops the n oldest events. What is missing is counted by a lag in its place, one in each stretch between
// advisories.
func (q *queue) dropLocked(n int) {
	q.events -= n
	for n > 0 {
		front := q.ring.at(0)
		if front.isAdvisory() {
			q.lead = append(q.lead, *front)
			q.ring.pop()
			continue
		}
		drop := min(n, len(*front))
		n -= drop
		q.lead = addLag(q.lead, drop)
		if drop < len(*front) {
			*front = (*front)[drop:]
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
		q.ring.push(newLagRun(n))
	}
}
