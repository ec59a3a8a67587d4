package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// outbox is what waits for one client. Whoever fills it never waits. Up to its limit it is the client's own. Beyond that it
// borrows from what there is for all together, so that a burst larger than the limit passes whole. Where it cannot borrow the
// oldest events give way to a lag that stands in their place, but for those that can be had again. Advisories and replies are not dropped; a client that lets
// those pile up is ended, and so is one that takes nothing for too long, or loses events for too long without catching up.
type outbox struct {
	limit    int           // bytes
	patience time.Duration // for how long more than the limit may wait without becoming less
	gapless  bool          // the client cannot be told of a lag: end it instead
	common   *ledger

	mu      sync.Mutex
	topics  []string // whose events are taken: none comes behind its unsubscription, on whatever way it is
	items   []item
	bytes   int
	wake    func()    // tells the writer, under mu, that there is something; nil until there is one
	writing bool      // the writer knows
	behind  time.Time // since when there is more than the limit and nothing is taken, or since when events are lost; zero: neither
	lossy   bool      // events were dropped, and it has not caught up since
	end     *ending   // nothing is accepted any more; it follows what waits
	dropped uint64
	emptied chan struct{} // closed when there is room again; nil: nobody waits for it
}

// put appends an item. ended: that was too much, and the client is ended.
func (o *outbox) put(it item) (ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil || it.kind == kindEvent && !slices.Contains(o.topics, it.topic) {
		return false
	}
	o.items = append(o.items, it)
	o.bytes += it.cost()
	if !o.makeRoomLocked() || o.isSlowLocked() {
		o.endSlowLocked()
		ended = true
	}
	o.wakeLocked()
	return ended
}

// offer is put for an event that can be had again: where there is no room for it it is not taken, and nothing gives way. Nor does it
// give way itself.
func (o *outbox) offer(it item) (taken, ended bool) {
	it.again = true
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil || !slices.Contains(o.topics, it.topic) {
		return true, false // it goes nowhere
	}
	if cost := it.cost(); o.bytes+cost > o.limit && len(o.items) > 0 {
		if o.bytes+cost > o.limit+o.common.each() || !o.common.borrow(it) {
			return false, false
		}
		it.borrowed = true
	}
	o.items = append(o.items, it)
	o.bytes += it.cost()
	if o.isSlowLocked() {
		o.endSlowLocked()
		ended = true
	}
	o.wakeLocked()
	return true, ended
}

// hasRoom says whether what is read for the client may go on to it: half of its own share, so that what comes meanwhile finds room.
func (o *outbox) hasRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hasRoomLocked()
}

func (o *outbox) hasRoomLocked() bool { return o.end == nil && o.bytes <= o.limit/2 }

var errEnded = errors.New("gateway: the client is being ended")

// awaitRoom returns when there is room, or with an error if there will be none.
func (o *outbox) awaitRoom(ctx context.Context) error {
	for {
		o.mu.Lock()
		if o.end != nil || o.hasRoomLocked() {
			defer o.mu.Unlock()
			if o.end != nil {
				return errEnded
			}
			return nil
		}
		if o.emptied == nil {
			o.emptied = make(chan struct{})
		}
		emptied := o.emptied
		o.mu.Unlock()
		select {
		case <-emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// emptiedLocked tells those who wait for room.
func (o *outbox) emptiedLocked() {
	if o.emptied != nil && (o.end != nil || o.hasRoomLocked()) {
		close(o.emptied)
		o.emptied = nil
	}
}

// makeRoomLocked finds room for the last item: the client's own, what it can borrow, or that of the oldest events. What does not give
// way has a limit of its own, see offer.
func (o *outbox) makeRoomLocked() bool {
	for o.bytes > o.limit {
		last := &o.items[len(o.items)-1]
		if last.kind != kindLag && o.bytes <= o.limit+o.common.each() && o.common.borrow(*last) { // a lag: it has itself been dropped
			last.borrowed = true
			return true
		}
		if o.gapless {
			return false
		}
		if !o.dropOldestLocked() {
			return o.bytes-o.againLocked() <= o.limit
		}
	}
	return true
}

// againLocked are the bytes of events that do not give way.
func (o *outbox) againLocked() (bytes int) {
	for i := range o.items {
		if o.items[i].again {
			bytes += o.items[i].cost()
		}
	}
	return bytes
}

// isSlowLocked says whether the client has been behind for too long.
func (o *outbox) isSlowLocked() bool {
	if o.bytes <= o.limit && !o.lossy {
		return false
	}
	now := time.Now()
	if o.behind.IsZero() {
		o.behind = now
	}
	return now.Sub(o.behind) > o.patience
}

// endSlowLocked ends the client, which learns how many events it does not get, if it can be told. What it can have again is not lost.
func (o *outbox) endSlowLocked() {
	o.end = endSlow
	o.emptiedLocked()
	if !o.gapless {
		o.removeLocked(func(it *item) bool { return it.again })
		for o.dropOldestLocked() {
		}
		return
	}
	o.dropped += uint64(len(o.items)) // all of them events
	o.common.giveBack(o.items...)
	o.items, o.bytes = nil, 0
}

// dropOldestLocked turns the oldest event into a lag, or adds it to the lag that it follows.
func (o *outbox) dropOldestLocked() bool {
	i := slices.IndexFunc(o.items, func(it item) bool { return it.kind == kindEvent && !it.again })
	if i < 0 {
		return false
	}
	o.dropped++
	o.lossy = true
	o.bytes -= o.items[i].cost()
	o.common.giveBack(o.items[i])
	if i > 0 && o.items[i-1].kind == kindLag {
		o.items[i] = item{kind: kindLag, lag: o.items[i-1].lag + 1}
		copy(o.items[1:i], o.items[:i-1])
		o.items[0] = item{}
		o.items = o.items[1:]
		return true
	}
	o.items[i] = item{kind: kindLag, lag: 1}
	o.bytes += itemCost
	return true
}

// admit has events of topics taken from now on.
func (o *outbox) admit(topics []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.topics = append(o.topics, topics...)
}

// revoke removes the waiting events of topics, and takes no more of them.
func (o *outbox) revoke(topics []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.topics = slices.DeleteFunc(o.topics, func(t string) bool { return slices.Contains(topics, t) })
	o.removeLocked(func(it *item) bool { return it.kind == kindEvent && slices.Contains(topics, it.topic) })
	o.emptiedLocked()
}

// removeLocked removes items that nobody waits for.
func (o *outbox) removeLocked(void func(*item) bool) {
	o.items = slices.DeleteFunc(o.items, func(it item) bool {
		if !void(&it) {
			return false
		}
		o.bytes -= it.cost()
		o.common.giveBack(it)
		return true
	})
}

// finish ends the client once it has got what waits. The first ending counts.
func (o *outbox) finish(end *ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		o.end = end
	}
	o.emptiedLocked()
	o.wakeLocked()
}

// attach gives the outbox its writer.
func (o *outbox) attach(wake func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake = wake
	if len(o.items) > 0 || o.end != nil {
		o.wakeLocked()
	}
}

func (o *outbox) wakeLocked() {
	if o.wake != nil && !o.writing {
		o.writing = true
		o.wake()
	}
}

const (
	takeItems = 64
	takeBytes = 64 << 10
)

// take moves some items into buf. When there are none the writer has done its work until it is woken again, or for good
// if there is an ending.
func (o *outbox) take(buf []item) ([]item, *ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := 0
	for n, it := range o.items {
		if n == takeItems || size > takeBytes {
			break
		}
		size += it.cost()
		buf = append(buf, it)
	}
	clear(o.items[:len(buf)])
	o.items = o.items[len(buf):]
	o.bytes -= size
	defer o.emptiedLocked()
	if len(o.items) == 0 {
		o.items = nil // an idle client keeps nothing
	}
	if len(buf) > 0 {
		o.progressLocked()
		o.common.giveBack(buf...)
		return buf, nil
	}
	o.writing = false
	o.behind, o.lossy = time.Time{}, false
	return nil, o.end
}

// progressLocked is called when the client has taken something.
func (o *outbox) progressLocked() {
	switch {
	case o.behind.IsZero() || o.lossy:
	case o.bytes <= o.limit:
		o.behind = time.Time{}
	default:
		o.behind = time.Now()
	}
}

// discard ends the outbox, with all that waits, and returns how many events were dropped before.
func (o *outbox) discard() (dropped uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		o.end = endStop
	}
	o.common.giveBack(o.items...)
	o.items, o.bytes = nil, 0
	o.emptiedLocked()
	return o.dropped
}

// pending says whether the writer has something to do.
func (o *outbox) pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writing
}

// figures returns how many items wait, and how many events were dropped so far.
func (o *outbox) figures() (waiting int, dropped uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items), o.dropped
}
