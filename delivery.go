package pghub

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxClaim   = 8                // consumers
	claimFrom  = 4 * maxClaim     // that are ready: with fewer, each is claimed alone
	turnEvents = 256              // after so many events it is another consumer's turn
	idleLooks  = 16               // so often does a worker look for work, while others run, before it ends
	turnWatch  = time.Millisecond // a turn that outlasts two of these is stuck, while others wait
	slowWatch  = slowHandler / 4  // how often handlers are looked at while nobody waits
	slowAgain  = time.Minute      // a consumer whose handler is slow is named no more often
)

// delivery runs the handlers of consumers that have events waiting. A few workers, as many as there are processors,
// take one consumer at a time for a short turn. A worker whose handler blocks is replaced, so that a slow handler costs
// the others nothing but the moment until that is noticed. With nothing to deliver there is no goroutine and no timer.
//
// Against a goroutine with a channel for each consumer, and a goroutine started for each burst, this was measured to
// bring one event to 10,000 consumers soonest; see the benchmarks.
type delivery struct {
	slow func(c *Consumer, topic string, busy time.Duration, waiting int) // is told of a slow handler

	mu      sync.Mutex
	ready   fifo // consumers
	workers map[*worker]struct{}
	stuck   int           // workers found stuck in a turn
	idle    int           // workers that look for work
	ticks   uint64        // of the watch
	pace    time.Duration // of the watch; 0: it is off
	timer   *time.Timer
}

// worker is a goroutine that delivers. Where many consumers are ready it claims several at once, since the others want
// d.mu too; they can be taken away from it until their turn begins. Its fields are owned by delivery.mu, but for the
// atomic ones; claim and claimed nobody but itself changes, and it reads them without.
type worker struct {
	claim   [maxClaim]*Consumer
	claimed int
	begun   atomic.Int32             // the turns of claim[:begun] have begun, or are somebody else's
	current atomic.Pointer[Consumer] // whose turn it is

	since uint64 // ticks when it was last here
	stuck bool
	idle  bool

	seen    *Consumer // the current one when the watch last looked
	place   uint64    // in its stream
	placeAt time.Time // since when; zero: its handler was not at work
	named   bool      // as slow, at this place
}

// nextClaimed begins the turn of a consumer that the worker has claimed. nil: there is none left.
func (w *worker) nextClaimed() *Consumer {
	if i := int(w.begun.Add(1)) - 1; i < w.claimed {
		return w.claim[i]
	}
	return nil
}

// fifo does not touch the consumers that it holds: with thousands of them, none is in a cache.
type fifo struct {
	items []*Consumer
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(c *Consumer) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		kept := copy(f.items, f.items[f.head:])
		clear(f.items[kept:])
		f.items, f.head = f.items[:kept], 0
	}
	f.items = append(f.items, c)
}

func (f *fifo) pop() *Consumer {
	c := f.items[f.head]
	f.items[f.head] = nil
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return c
}

func newDelivery(slow func(*Consumer, string, time.Duration, int)) *delivery {
	return &delivery{slow: slow, workers: make(map[*worker]struct{})}
}

// add schedules consumers whose queue asked for it.
func (d *delivery) add(ready ...*Consumer) {
	if len(ready) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range ready {
		d.pushLocked(c)
	}
	d.staffLocked()
}

func (d *delivery) pushLocked(c *Consumer) {
	if c.pull != nil { // an iterator delivers to itself
		select {
		case c.pull <- struct{}{}:
		default:
		}
		return
	}
	d.ready.push(c)
}

// staffLocked starts workers for the ready consumers, up to one a processor beyond those that are stuck. The watch sees
// to it that the others come to their turn.
func (d *delivery) staffLocked() {
	free := runtime.GOMAXPROCS(0) - (len(d.workers) - d.stuck)
	started := max(0, min(free, d.ready.len()-d.idle))
	for range started {
		w := &worker{since: d.ticks}
		d.workers[w] = struct{}{}
		go d.work(w)
	}
	switch {
	case d.ready.len() > d.idle+started, d.ready.len() >= claimFrom:
		d.watchLocked(turnWatch)
	case d.ready.len() > 0:
		d.watchLocked(slowWatch)
	}
}

// work gives turns to consumers until none is ready. A server sends 8 kB at a time, so that the next few events follow in
// a moment: to look for them again is cheaper than to end and have another worker started.
func (d *delivery) work(w *worker) {
	normal := false
	defer func() {
		if !normal { // a handler has called runtime.Goexit, as a failing test does
			d.leave(w)
		}
	}()
	again := false
	for looks := 1; looks <= idleLooks; looks++ {
		var c *Consumer
		if !again {
			c = w.nextClaimed()
		}
		if c == nil {
			c = d.next(w, again, looks == idleLooks)
		}
		if again = false; c == nil {
			runtime.Gosched()
			continue
		}
		w.current.Store(c)
		again = c.turn()
		looks = 0
	}
	normal = true
}

// next begins the turn of the consumer that has waited longest; again: the last one wants another. nil: there is none; if
// it was the last look then w has left.
func (d *delivery) next(w *worker, again, last bool) *Consumer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if again {
		d.pushLocked(w.current.Load())
	}
	if w.stuck {
		w.stuck = false
		d.stuck--
	}
	if w.idle {
		w.idle = false
		d.idle--
	}
	w.since = d.ticks
	if c := w.nextClaimed(); c != nil {
		return c
	}
	if d.ready.len() == 0 {
		for other := range d.workers {
			d.reclaimLocked(other)
		}
	}
	if d.ready.len() > 0 {
		return d.claimLocked(w)
	}
	w.current.Store(nil)
	if last {
		delete(d.workers, w)
	} else {
		w.idle = true
		d.idle++
	}
	return nil
}

// claimLocked gives w some of the ready consumers, of which there is one at least, and returns the first.
func (d *delivery) claimLocked(w *worker) *Consumer {
	w.claimed = 1
	if n := d.ready.len(); n >= claimFrom {
		w.claimed = min(n/(claimFrom/2), maxClaim)
	}
	for i := range w.claimed {
		w.claim[i] = d.ready.pop()
	}
	w.begun.Store(1)
	return w.claim[0]
}

// reclaimLocked makes consumers ready again whose turn on w has not begun.
func (d *delivery) reclaimLocked(w *worker) {
	if int(w.begun.Load()) >= w.claimed {
		return
	}
	for i := int(w.begun.Swap(maxClaim)); i < w.claimed; i++ {
		d.pushLocked(w.claim[i])
	}
}

// leave takes a worker off whose goroutine ends within a turn; its consumer goes on with the next event on another one.
func (d *delivery) leave(w *worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.stuck {
		d.stuck--
	}
	delete(d.workers, w)
	d.pushLocked(w.current.Load())
	d.reclaimLocked(w)
	d.staffLocked()
}

// watchLocked makes the watch look again soon enough.
func (d *delivery) watchLocked(pace time.Duration) {
	if d.pace != 0 && d.pace <= pace {
		return
	}
	d.pace = pace
	if d.timer == nil {
		d.timer = time.AfterFunc(pace, d.watch)
	} else {
		d.timer.Reset(pace)
	}
}

// watch replaces stuck workers while consumers wait for one, and names slow handlers.
func (d *delivery) watch() {
	type slow struct {
		c       *Consumer
		topic   string
		busy    time.Duration
		waiting int
	}
	var found []slow

	d.mu.Lock()
	d.ticks++
	d.pace = 0
	now := time.Now()
	unnamed, claimed := 0, 0
	for w := range d.workers {
		c := w.current.Load()
		if c == nil {
			continue // it looks for work
		}
		if !w.stuck && w.since+1 < d.ticks {
			w.stuck = true
			d.stuck++
			d.reclaimLocked(w)
		}
		claimed += max(w.claimed-int(w.begun.Load()), 0)
		ev, place, waiting := c.queue.current()
		if ev == nil || c != w.seen || place != w.place || w.placeAt.IsZero() {
			w.seen, w.place, w.placeAt, w.named = c, place, now, false
		}
		if ev == nil {
			w.placeAt = time.Time{}
		}
		busy := now.Sub(w.placeAt)
		if ev != nil && !w.named && busy >= slowHandler {
			w.named = true
			if now.Sub(c.slowAt) >= slowAgain {
				c.slowAt = now
				found = append(found, slow{c, ev.Topic, busy, waiting})
			}
		}
		if !w.named {
			unnamed++
		}
	}
	d.staffLocked()
	switch {
	case d.ready.len() > 0:
	case claimed > 0:
		d.watchLocked(turnWatch)
	case unnamed > 0:
		d.watchLocked(slowWatch)
	case len(d.workers) > 0: // they may come to further events
		d.watchLocked(slowAgain)
	}
	d.mu.Unlock()

	for _, s := range found {
		d.slow(s.c, s.topic, s.busy, s.waiting)
	}
}
