package pghub

import (
	"sync"
	"time"
)

// linger holds a consumer back for a while when something has come for it, so that more comes together; see
// [BatchConfig].Delay. It stands between the queue, which asks for a turn, and delivery, which gives it. What waits, waits
// in the queue: it can still be unsubscribed, discarded and counted there. There is no goroutine but the timer's.
//
// A nil linger never holds anybody back.
type linger struct {
	delay  time.Duration
	enough int // events: so many are not held back

	mu      sync.Mutex
	timer   *time.Timer
	pending bool // the timer is to bring the consumer to its turn; whoever clears this has to do it
}

// holds takes a consumer whose turn it would be, and brings it back after the delay. It returns false if there is to be no
// delay now. The caller may hold delivery.mu.
func (l *linger) holds(c *Consumer) bool {
	if l == nil || c.queue.isUrgent(l.enough) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = true
	if l.timer == nil {
		l.timer = time.AfterFunc(l.delay, func() { l.bringBack(c) })
	} else {
		l.timer.Reset(l.delay)
	}
	return true
}

func (l *linger) bringBack(c *Consumer) {
	if l.release() {
		c.hub.delivery.bring(c)
	}
}

// hurries ends the delay of a consumer if what has come for it is urgent. true: the caller has to add it to delivery.
func (l *linger) hurries(c *Consumer) bool {
	return l != nil && c.queue.isUrgent(l.enough) && l.release()
}

// release ends the delay. mine: there was one, and the caller has to add the consumer to delivery.
func (l *linger) release() (mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pending {
		return false
	}
	l.pending = false
	l.timer.Stop()
	return true
}

// isUrgent reports that what waits is not to be held back: enough events, a supervisory event, or the last one.
func (q *queue) isUrgent(enough int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sealed || q.events >= enough || len(q.lead) > 0 {
		return true
	}
	for i := range q.ring.n {
		if q.ring.at(i).isAdvisory() {
			return true
		}
	}
	return false
}
