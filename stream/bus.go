package stream

import "sync"

// bus tells readers that there may be something new. Whoever waits takes a channel first, looks, and waits then: what happens
// in between closes the channel.
type bus struct {
	mu      sync.Mutex
	ticked  chan struct{}            // closed at the next tick
	changed map[string]chan struct{} // by consumer: closed when it is free, or has events to try again
}

func newBus() *bus {
	return &bus{ticked: make(chan struct{}), changed: make(map[string]chan struct{})}
}

func (b *bus) nextTick() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ticked
}

func (b *bus) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ticked)
	b.ticked = make(chan struct{})
}

func (b *bus) nextChange(consumer string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.changed[consumer]
	if c == nil {
		c = make(chan struct{})
		b.changed[consumer] = c
	}
	return c
}

func (b *bus) change(consumer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.changed[consumer]; c != nil {
		close(c)
		delete(b.changed, consumer)
	}
}

// changeAll is for after a time in which nothing was heard.
func (b *bus) changeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.changed {
		close(c)
	}
	clear(b.changed)
}
