package pghub

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	idleLooks = 16               // so often does a worker look for work before it ends
	watchTick = time.Millisecond // how long consumers wait before the watch looks why
	fewTurns  = 8                // in a tick, for each worker: with fewer, handlers are slow
)

// delivery runs the handlers of consumers that have events waiting.
//
// One list holds these consumers. A shift of workers serves it, as many as there are processors: each takes the consumer
// that has waited longest, gives it a short turn, and comes back. While somebody waits, a watch looks once a millisecond
// how many turns there were. If there were few, handlers block, or are slow. Then the shift is over, and a new one begins
// that is twice as large. A worker of a shift that is over leaves when its handler returns. So a thousand handlers that
// block at once cost the others ten ticks, and nothing once they are stuck; and when they return, all together, they
// meet at no lock. When nobody waits, shifts become smaller again, by half in each tick.
//
// With nothing to deliver there is no goroutine and no timer. Against a goroutine with a channel for each consumer, and a
// goroutine started for each burst, this was measured to bring one event to 10,000 consumers soonest; see the benchmarks.
type delivery struct {
	lookout *lookout

	mu       sync.Mutex
	ready    fifo // consumers
	shift    *shift
	watching bool // the timer runs
	timer    *time.Timer
}

// shift is the workers that serve the list at a time. Its fields are owned by delivery.mu, but for the atomic one.
type shift struct {
	over    atomic.Bool // its workers leave when they come back
	size    int         // how many workers it may have
	workers int         // it has
	looking int         // of these, looking for work
	turns   int         // that ended since the watch last looked
}

func newDelivery(slow func(slowCall)) *delivery {
	return &delivery{lookout: newLookout(slow), shift: &shift{size: runtime.GOMAXPROCS(0)}}
}

// add schedules consumers whose queue asked for it.
func (d *delivery) add(ready ...*Consumer) {
	if len(ready) == 0 {
		return
	}
	d.mu.Lock()
	for _, c := range ready {
		if c.loop != nil {
			c.loop.wakeUp()
			continue
		}
		if c.linger.holds(c) {
			continue
		}
		d.ready.push(c)
	}
	s, hired := d.hireLocked()
	d.mu.Unlock()
	d.begin(s, hired)
}

// bring schedules a consumer that has waited already.
func (d *delivery) bring(c *Consumer) {
	d.mu.Lock()
	d.ready.push(c)
	s, hired := d.hireLocked()
	d.mu.Unlock()
	d.begin(s, hired)
}

// hireLocked says how many workers are to begin, now that somebody waits. Where they are not enough the watch will look.
func (d *delivery) hireLocked() (s *shift, hired int) {
	s = d.shift
	waiting := d.ready.len() - s.looking
	hired = max(0, min(s.size-s.workers, waiting))
	s.workers += hired
	s.looking += hired
	if waiting > hired && !d.watching {
		d.watchLocked()
	}
	return s, hired
}

func (d *delivery) begin(s *shift, hired int) {
	for range hired {
		go d.work(s)
	}
}

// work is a worker's life: it gives turns to consumers until none is ready, or its shift is over.
func (d *delivery) work(s *shift) {
	w := d.lookout.enter()
	defer w.leave()
	for c := d.look(s); c != nil; {
		again := d.turn(w, s, c)
		c = d.next(s, c, again)
	}
}

// turn gives a consumer its turn.
func (d *delivery) turn(w *worker, s *shift, c *Consumer) (again bool) {
	returned := false
	defer func() {
		if !returned { // the handler has called runtime.Goexit, as a failing test does: another worker goes on
			d.mu.Lock()
			s.workers--
			d.mu.Unlock()
			d.add(c)
		}
	}()
	w.serves.Store(c)
	again = c.turn()
	w.serves.Store(nil)
	returned = true
	return again
}

// next ends the turn of a consumer, which may want another one, and returns the next consumer. nil: the worker leaves.
func (d *delivery) next(s *shift, last *Consumer, again bool) *Consumer {
	if s.over.Load() { // without the lock: thousands may come back together
		if again {
			d.bring(last)
		}
		return nil
	}
	d.mu.Lock()
	if again {
		d.ready.push(last)
	}
	s.turns++
	s.looking++
	c := d.takeLocked(s)
	d.mu.Unlock()
	if c == nil {
		c = d.look(s)
	}
	return c
}

// look looks for a consumer that is ready, several times. A server sends 8 kB at a time, so that the next few events
// follow in a moment: to look again is cheaper than to leave and have another worker begin. nil: the worker leaves.
func (d *delivery) look(s *shift) *Consumer {
	for looks := 1; ; looks++ {
		d.mu.Lock()
		c := d.takeLocked(s)
		if c == nil && (looks == idleLooks || s != d.shift) {
			s.workers--
			s.looking--
			now, hired := d.hireLocked() // for a consumer that this worker has brought back, when its shift was just over
			d.mu.Unlock()
			d.begin(now, hired)
			return nil
		}
		d.mu.Unlock()
		if c != nil {
			return c
		}
		runtime.Gosched()
	}
}

// takeLocked takes the consumer that has waited longest. A worker of a shift that is over gets none.
func (d *delivery) takeLocked(s *shift) *Consumer {
	if s != d.shift || d.ready.len() == 0 {
		return nil
	}
	s.looking--
	return d.ready.pop()
}

// watch looks whether those who wait are served, and begins a larger shift if not.
func (d *delivery) watch() {
	d.mu.Lock()
	s, waiting, fewest := d.shift, d.ready.len(), runtime.GOMAXPROCS(0)
	switch {
	case waiting == 0 && s.workers > fewest: // all of them are at work, and may be so for long
		s = d.nextShiftLocked(max(s.size/2, fewest))
	case waiting == 0:
		s.size = max(s.size/2, fewest)
	case s.looking > 0: // they lack a processor, and not a handler's return
	case s.turns < fewTurns*s.workers:
		s = d.nextShiftLocked(max(min(2*s.size, waiting), fewest))
	}
	s.turns = 0
	d.watching = false
	if s.size > fewest { // and if more wait than there is a worker for: hireLocked
		d.watchLocked()
	}
	s, hired := d.hireLocked()
	d.mu.Unlock()
	d.begin(s, hired)
}

func (d *delivery) nextShiftLocked(size int) *shift {
	d.shift.over.Store(true)
	d.shift = &shift{size: size}
	return d.shift
}

func (d *delivery) watchLocked() {
	d.watching = true
	if d.timer == nil {
		d.timer = time.AfterFunc(watchTick, d.watch)
	} else {
		d.timer.Reset(watchTick)
	}
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
