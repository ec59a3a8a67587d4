package pghub

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// roster knows which consumers have not had their last event yet, and whose handlers are waiting for others to end. It
// keeps calls of Stop and Drain within handlers from waiting for each other.
type roster struct {
	mu         sync.Mutex
	ending     bool
	unfinished int           // consumers that have not had their last event
	waiting    int           // of these, whose handler is inside Stop or Drain
	quiet      chan struct{} // closed when ending, and all that are unfinished are waiting
	loops      []*Consumer   // over Events
}

// attendance is what the roster keeps with each consumer. It is owned by roster.mu.
type attendance struct {
	waits    int        // calls of Stop or Drain that the handler is inside of, and that still have to wait
	drainers []*drainer // handlers inside Drain of this consumer
	finished bool       // it has had its last event
}

// drainer is a handler that waits in Drain of another consumer.
type drainer struct {
	c        *Consumer
	released chan struct{}
}

func newRoster() *roster { return &roster{quiet: make(chan struct{})} }

// enter counts a new consumer in.
func (r *roster) enter(c *Consumer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending {
		return ErrStopped
	}
	r.unfinished++
	if c.loop != nil {
		r.loops = append(r.loops, c)
	}
	return nil
}

// end lets nobody in any more.
func (r *roster) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ending = true
	r.lookLocked()
}

// leave counts a consumer out that has had its last event, and closes its Done before anybody who waits is told.
func (r *roster) leave(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.finished = true
	r.unfinished--
	if c.waits > 0 {
		r.waiting--
	}
	if c.loop != nil {
		r.loops = slices.DeleteFunc(r.loops, func(other *Consumer) bool { return other == c })
	}
	close(c.done)
	r.releaseLocked(c)
	r.lookLocked()
}

func (r *roster) lookLocked() {
	if r.ending && r.unfinished == r.waiting {
		select {
		case <-r.quiet:
		default:
			close(r.quiet)
		}
	}
}

// waitForAll notes that the handler of c is inside Stop. The wait is over when quiet is closed, and back is to be called
// when Stop returns.
func (r *roster) waitForAll(c *Consumer) (back func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waitLocked(c)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.resumeLocked(c)
	}
}

// waitFor notes that the handler of c is inside Drain of target. released is closed when target has had its last event, or
// when its handler begins to wait too. back is to be called when Drain returns.
func (r *roster) waitFor(c, target *Consumer) (released <-chan struct{}, back func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &drainer{c: c, released: make(chan struct{})}
	if target.finished || target.waits > 0 {
		close(d.released)
		return d.released, func() {}
	}
	target.drainers = append(target.drainers, d)
	r.waitLocked(c)
	return d.released, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if i := slices.Index(target.drainers, d); i >= 0 {
			target.drainers = slices.Delete(target.drainers, i, i+1)
			r.resumeLocked(c)
		}
	}
}

func (r *roster) waitLocked(c *Consumer) {
	if c.waits++; c.waits == 1 && !c.finished {
		r.waiting++
		r.releaseLocked(c)
		r.lookLocked()
	}
}

func (r *roster) resumeLocked(c *Consumer) {
	if c.waits--; c.waits == 0 && !c.finished {
		r.waiting--
	}
}

// releaseLocked ends the wait of all who drain c. They are at work again from this moment, and not when they notice.
func (r *roster) releaseLocked(c *Consumer) {
	for _, d := range c.drainers {
		close(d.released)
		r.resumeLocked(d.c)
	}
	c.drainers = nil
}

// loopsHere returns the consumers of the loops over Events whose body the calling goroutine is in.
func (r *roster) loopsHere() (here []*Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.loops) == 0 {
		return nil
	}
	id := goroutineID()
	for _, c := range r.loops {
		if c.loop.goroutine == id {
			here = append(here, c)
		}
	}
	return here
}

// goroutineID is the number of the calling goroutine, as it stands at the head of its stack trace. A loop's body gets no
// context that would tell Stop who is calling.
func goroutineID() uint64 {
	var head [64]byte
	words := bytes.Fields(head[:runtime.Stack(head[:], false)]) // goroutine 18 [running]: …
	if len(words) < 2 {
		return 0
	}
	id, _ := strconv.ParseUint(string(words[1]), 10, 64) // 0 is nobody's
	return id
}
