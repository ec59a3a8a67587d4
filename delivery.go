package pghub

import (
	"runtime"
	"sync"
	"time"
)

const (
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

	mu         sync.Mutex
	head, tail *Consumer // ready consumers, linked by Consumer.next
	ready      int       // how many
	workers    map[*worker]struct{}
	stuck      int           // workers found stuck in a turn
	idle       int           // workers that look for work
	ticks      uint64        // of the watch
	pace       time.Duration // of the watch; 0: it is off
	timer      *time.Timer
}

// worker is a goroutine that delivers. Its fields are owned by delivery.mu.
type worker struct {
	c     *Consumer // whose turn it is
	since uint64    // ticks when the turn began
	stuck bool
	idle  bool

	place   uint64    // in the consumer's stream, when the watch last looked
	placeAt time.Time // since when
	named   bool      // as slow, at this place
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
	if d.tail == nil {
		d.head = c
	} else {
		d.tail.next = c
	}
	d.tail = c
	d.ready++
}

// staffLocked starts workers for the ready consumers, up to one a processor beyond those that are stuck. The watch sees
// to it that the others come to their turn.
func (d *delivery) staffLocked() {
	free := runtime.GOMAXPROCS(0) - (len(d.workers) - d.stuck)
	started := max(0, min(free, d.ready-d.idle))
	for range started {
		w := &worker{since: d.ticks}
		d.workers[w] = struct{}{}
		go d.work(w)
	}
	switch {
	case d.ready > d.idle+started:
		d.watchLocked(turnWatch)
	case d.ready > 0:
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
		c := d.next(w, again, looks == idleLooks)
		if again = false; c == nil {
			runtime.Gosched()
			continue
		}
		again = c.turn()
		looks = 0
	}
	normal = true
}

// next ends w's turn and begins one of the consumer that has waited longest. nil: there is none; if it was the last look
// then w has left.
func (d *delivery) next(w *worker, again, last bool) *Consumer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if again {
		d.pushLocked(w.c)
	}
	if w.stuck {
		w.stuck = false
		d.stuck--
	}
	if w.idle {
		w.idle = false
		d.idle--
	}
	c := d.head
	switch {
	case c != nil:
	case last:
		delete(d.workers, w)
		return nil
	default:
		w.c, w.idle = nil, true
		d.idle++
		return nil
	}
	if d.head = c.next; d.head == nil {
		d.tail = nil
	}
	c.next = nil
	d.ready--
	w.c, w.since, w.placeAt, w.named = c, d.ticks, time.Time{}, false
	return c
}

// leave takes a worker off whose goroutine ends within a turn; its consumer goes on with the next event on another one.
func (d *delivery) leave(w *worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.stuck {
		d.stuck--
	}
	delete(d.workers, w)
	d.pushLocked(w.c)
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
	unnamed := 0
	for w := range d.workers {
		if w.c == nil {
			continue // has just been started
		}
		if !w.stuck && w.since+1 < d.ticks {
			w.stuck = true
			d.stuck++
		}
		ev, place, waiting := w.c.queue.current()
		if place != w.place || w.placeAt.IsZero() {
			w.place, w.placeAt, w.named = place, now, false
		}
		busy := now.Sub(w.placeAt)
		if ev != nil && !w.named && busy >= slowHandler {
			w.named = true
			if now.Sub(w.c.slowAt) >= slowAgain {
				w.c.slowAt = now
				found = append(found, slow{w.c, ev.Topic, busy, waiting})
			}
		}
		if !w.named {
			unnamed++
		}
	}
	d.staffLocked()
	switch {
	case d.ready > 0:
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
