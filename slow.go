package pghub

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	slowHandler = time.Second     // a handler that takes longer for one event is named
	slowLook    = slowHandler / 4 // how often the lookout looks
	slowAgain   = time.Minute     // a consumer whose handler is slow is named no more often
)

// lookout names handlers that are busy with one event for long. It looks at the workers four times a second while there
// are any, and asks nothing of them but to say whom they serve.
type lookout struct {
	tell func(slowCall)

	mu      sync.Mutex
	workers []*worker
	timer   *time.Timer
	looking bool // the timer runs
}

// slowCall is a call of a handler that takes long.
type slowCall struct {
	c       *Consumer
	topic   string
	busy    time.Duration
	waiting int // events in the queue
}

// worker is a goroutine of delivery as the lookout sees it.
type worker struct {
	lookout *lookout
	serves  atomic.Pointer[Consumer] // whose turn it is; nil: nobody's
	gone    atomic.Bool              // it has left while the lookout was busy

	// Owned by lookout.mu.
	index int       // in lookout.workers
	seen  *Consumer // whom it served when the lookout last looked
	place uint64    // in that consumer's stream
	since time.Time // it was found there
	named bool
}

func newLookout(tell func(slowCall)) *lookout { return &lookout{tell: tell} }

// enter notes that a worker begins.
func (l *lookout) enter() *worker {
	w := &worker{lookout: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.index = len(l.workers)
	l.workers = append(l.workers, w)
	if !l.looking {
		l.lookLaterLocked()
	}
	return w
}

// leave notes that a worker ends. Thousands may end together: none waits for the lock, the lookout finds those who could
// not have it.
func (w *worker) leave() {
	if l := w.lookout; l.mu.TryLock() {
		defer l.mu.Unlock()
		l.removeLocked(w)
	} else {
		w.gone.Store(true)
	}
}

func (l *lookout) removeLocked(w *worker) {
	last := len(l.workers) - 1
	moved := l.workers[last]
	moved.index = w.index
	l.workers[w.index] = moved
	l.workers[last] = nil
	l.workers = l.workers[:last]
}

func (l *lookout) lookLaterLocked() {
	l.looking = true
	if l.timer == nil {
		l.timer = time.AfterFunc(slowLook, l.look)
	} else {
		l.timer.Reset(slowLook)
	}
}

func (l *lookout) look() {
	for _, call := range l.slow(time.Now()) {
		l.tell(call)
	}
}

// slow returns the calls to be named now.
func (l *lookout) slow(now time.Time) (calls []slowCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.workers) - 1; i >= 0; i-- { // backwards: one that is removed gives its place to the last
		w := l.workers[i]
		if w.gone.Load() {
			l.removeLocked(w)
			continue
		}
		c := w.serves.Load()
		if c == nil {
			w.seen = nil
			continue
		}
		if place := c.queue.delivered.Load(); c != w.seen || place != w.place {
			w.seen, w.place, w.since, w.named = c, place, now, false
			continue
		}
		if busy := now.Sub(w.since); busy >= slowHandler && !w.named {
			if topic, atWork, _, waiting := c.queue.current(); atWork {
				w.named = true
				if now.Sub(c.slowAt) >= slowAgain {
					c.slowAt = now
					calls = append(calls, slowCall{c, topic, busy, waiting})
				}
			}
		}
	}
	l.looking = false
	if len(l.workers) > 0 {
		l.lookLaterLocked()
	}
	return calls
}
