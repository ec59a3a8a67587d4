package pghub

import (
	"sync"
	"sync/atomic"
)

// handSize is how many events a worker fetches with one lock.
const handSize = 32

// queue is what waits for one consumer, in the order of the stream.
//
// Events stand in a ring that grows up to the limit. Advisories, which are never dropped, and lags stand beside it as
// marks, each with the position in the stream of the event that it precedes. So the cost of an event is a pointer, and
// what is dropped is announced exactly where it is missing.
type queue struct {
	limit    int
	batch    int // how many events a worker may fetch at once
	overflow Overflow

	// recall tells the worker, between two events, that some of those in its hand are void.
	recall atomic.Bool
	// delivered counts events and advisories that the handler has returned from; stored by the consumer's worker only.
	delivered atomic.Uint64

	mu        sync.Mutex
	ring      []*Event // its length is 0 or a power of two
	head      int
	n         int
	first     uint64 // position in the stream of ring[head]
	marks     []mark
	final     *Event // comes when nothing else is left
	sealed    bool   // takes nothing further: final is set
	finished  bool   // final has been taken
	scheduled bool   // a worker has the consumer, or will have it
	dropped   uint64
	lagging   bool // events were dropped since the queue was empty

	hand       []*Event // what the worker has fetched and not yet finished, written under mu
	handBase   uint64   // delivered when hand[0] was the next
	voidTopics []string // unsubscribed while events of theirs were in hand
	voidAll    bool
}

// mark is an advisory, or a lag where ev is nil, that goes out before the event at position at.
type mark struct {
	at  uint64
	ev  *Event
	lag uint64
}

func (m mark) event() *Event {
	if m.ev == nil {
		return newLag(m.lag)
	}
	return m.ev
}

func newQueue(limit int, overflow Overflow) queue {
	// Fetching several at once saves locks; fetched events no longer give way to newer ones, so a short queue does
	// without.
	return queue{limit: limit, batch: min(max(limit/64, 1), handSize), overflow: overflow}
}

// put appends events; where the queue is full, at the price that the overflow policy names. wake: the consumer has to be
// scheduled. overflowed: events were dropped, for the first time since the queue was empty.
func (q *queue) put(events []*Event) (wake, overflowed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed {
		return false, false
	}
	dropped := 0
	if over := len(events) - (q.limit - q.n); over > 0 {
		dropped = over
		q.dropped += uint64(over)
		overflowed, q.lagging = !q.lagging, true
		switch q.overflow {
		case DropOldest:
			old := min(over, q.n)
			q.dropLocked(old)
			q.skipLocked(over - old)
			events = events[over-old:]
		case DropNewest:
			events = events[:len(events)-over]
		case CloseConsumer:
			q.sealLocked(newAdvisory(Advisory{Action: ActionClose, Final: true, Err: ErrSlowConsumer, Dropped: uint64(over)}), true)
			return q.scheduleLocked(), overflowed
		}
	}
	q.growLocked(len(events))
	mask := len(q.ring) - 1
	for len(events) > 0 {
		tail := (q.head + q.n) & mask
		c := copy(q.ring[tail:min(len(q.ring), tail+len(events))], events)
		q.n += c
		events = events[c:]
	}
	if dropped > 0 && q.overflow == DropNewest {
		q.lagLocked(len(q.marks), q.first+uint64(q.n), uint64(dropped))
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
	q.marks = append(q.marks, mark{at: q.first + uint64(q.n), ev: ev})
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
		q.first += uint64(q.n)
		q.ring, q.head, q.n, q.marks = nil, 0, 0, nil
		q.voidAll = true
		q.recall.Store(true)
	}
}

// revoke removes what waits of an unsubscribed topic.
func (q *queue) revoke(topic string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := 0
	next := 0 // mark
	for i := range q.n {
		for ; next < len(q.marks) && q.marks[next].at <= q.first+uint64(i); next++ {
			q.marks[next].at = q.first + uint64(kept)
		}
		ev := q.ring[(q.head+i)&(len(q.ring)-1)]
		if ev.Topic != topic {
			q.ring[(q.head+kept)&(len(q.ring)-1)] = ev
			kept++
		}
	}
	for ; next < len(q.marks); next++ {
		q.marks[next].at = q.first + uint64(kept)
	}
	for i := kept; i < q.n; i++ {
		q.ring[(q.head+i)&(len(q.ring)-1)] = nil
	}
	q.n = kept
	if len(q.hand) > 0 {
		q.voidTopics = append(q.voidTopics, topic)
		q.recall.Store(true)
	}
}

// take fills the worker's hand. It is empty when nothing is left; the consumer is then no longer scheduled.
func (q *queue) take(buf []*Event) []*Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	hand := buf[:0]
	if done := int(q.delivered.Load() - q.handBase); done < len(q.hand) {
		// The worker that fetched these ended within a turn.
		hand = q.siftLocked(append(hand, q.hand[done:]...))
	}
	for len(hand) < q.batch {
		if len(q.marks) > 0 && q.marks[0].at <= q.first {
			hand = append(hand, q.marks[0].event())
			if q.marks = append(q.marks[:0], q.marks[1:]...); len(q.marks) == 0 {
				q.marks = nil
			}
			continue
		}
		n := min(q.n, q.batch-len(hand))
		if len(q.marks) > 0 {
			n = min(n, int(q.marks[0].at-q.first))
		}
		if n == 0 {
			break
		}
		n = min(n, len(q.ring)-q.head) // up to the end of the ring; the rest in the next round
		hand = append(hand, q.ring[q.head:q.head+n]...)
		clear(q.ring[q.head : q.head+n])
		q.consumeLocked(n)
	}
	if len(hand) == 0 && q.sealed && !q.finished {
		hand = append(hand, q.final)
		q.finished = true
	}
	if q.n == 0 {
		q.lagging = false
		if len(q.ring) > idleRing {
			q.ring, q.head = nil, 0
		}
	}
	q.scheduled = len(hand) > 0
	q.holdLocked(hand)
	return hand
}

// idleRing is the room, in events, that an idle consumer keeps.
const idleRing = 16

// sift removes what has become void from the worker's hand.
func (q *queue) sift(hand []*Event) []*Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	hand = q.siftLocked(hand)
	q.holdLocked(hand)
	return hand
}

func (q *queue) siftLocked(hand []*Event) []*Event {
	kept := hand[:0]
	for _, ev := range hand {
		if ev == q.final || !q.voidAll && !q.voidLocked(ev) {
			kept = append(kept, ev)
		}
	}
	return kept
}

// holdLocked notes what is in the worker's hand; all of it is valid now.
func (q *queue) holdLocked(hand []*Event) {
	if len(hand) == 0 {
		hand = nil // keep nothing of the worker's buffer alive
	}
	q.hand, q.handBase = hand, q.delivered.Load()
	q.voidTopics, q.voidAll = nil, false
	q.recall.Store(false)
}

func (q *queue) voidLocked(ev *Event) bool {
	for _, t := range q.voidTopics {
		if ev.Topic == t && ev.Advisory == nil {
			return true
		}
	}
	return false
}

// current is the event that the handler has, if any, its place in the stream, and how many events wait.
func (q *queue) current() (ev *Event, place uint64, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place = q.delivered.Load()
	if i := place - q.handBase; i < uint64(len(q.hand)) {
		ev = q.hand[i]
	}
	return ev, place, q.n
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

// growLocked makes room for n more events.
func (q *queue) growLocked(n int) {
	size := max(len(q.ring), 4)
	for size < q.n+n {
		size *= 2
	}
	if size == len(q.ring) {
		return
	}
	ring := make([]*Event, size)
	c := copy(ring, q.ring[q.head:min(len(q.ring), q.head+q.n)])
	copy(ring[c:], q.ring[:q.n-c])
	q.ring, q.head = ring, 0
}

// consumeLocked advances the head by n events.
func (q *queue) consumeLocked(n int) {
	q.head = (q.head + n) & (len(q.ring) - 1)
	q.n -= n
	q.first += uint64(n)
}

// dropLocked drops the n oldest events and leaves a lag in their place, one in each stretch between advisories.
func (q *queue) dropLocked(n int) {
	for n > 0 {
		m := q.frontLocked()
		stretch := n
		if m < len(q.marks) {
			stretch = min(n, int(q.marks[m].at-q.first))
		}
		for i := range stretch {
			q.ring[(q.head+i)&(len(q.ring)-1)] = nil
		}
		q.consumeLocked(stretch)
		q.lagLocked(m, q.first, uint64(stretch))
		n -= stretch
	}
}

// skipLocked drops n events that arrive at an empty ring.
func (q *queue) skipLocked(n int) {
	if n > 0 {
		q.first += uint64(n)
		q.lagLocked(len(q.marks), q.first, uint64(n))
	}
}

// frontLocked is the number of marks that go out before the oldest event.
func (q *queue) frontLocked() (n int) {
	for n < len(q.marks) && q.marks[n].at <= q.first {
		n++
	}
	return n
}

// lagLocked records at mark m that n events before position at are missing.
func (q *queue) lagLocked(m int, at, n uint64) {
	if m > 0 && q.marks[m-1].ev == nil {
		q.marks[m-1].at = at
		q.marks[m-1].lag += n
		return
	}
	q.marks = append(q.marks, mark{})
	copy(q.marks[m+1:], q.marks[m:])
	q.marks[m] = mark{at: at, lag: n}
}
