package stream

import "sync"

// maxAhead is how many events may be read and not be behind the position.
const maxAhead = 10_000

// progress knows the position: that of the last event before which all are done.
type progress struct {
	room chan struct{} // has one for every event that is not behind the position

	mu    sync.Mutex
	at    Position
	items []*item
}

// item is an event that has been read, or the end of a page, in the order of the stream.
type item struct {
	at   Position
	done bool
	held bool // takes room
}

func newProgress(at Position) *progress {
	return &progress{at: at, room: make(chan struct{}, maxAhead)}
}

// add notes an event for which there is room.
func (p *progress) add(at Position) *item {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := &item{at: at, held: true}
	p.items = append(p.items, it)
	return it
}

// pass notes that there is nothing more to be done up to a position.
func (p *progress) pass(at Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.items = append(p.items, &item{at: at, done: true})
	p.advanceLocked()
}

// finish notes that an event is done.
func (p *progress) finish(it *item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it.done = true
	p.advanceLocked()
}

func (p *progress) advanceLocked() {
	n := 0
	for ; n < len(p.items) && p.items[n].done; n++ {
		p.at = p.items[n].at
		if p.items[n].held {
			<-p.room
		}
		p.items[n] = nil
	}
	p.items = p.items[n:]
}

// jump sets the position. Nothing may be under way.
func (p *progress) jump(at Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
}

func (p *progress) position() Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *progress) unfinished() int { return len(p.room) }
