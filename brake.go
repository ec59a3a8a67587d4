package pghub

import (
	"sync"
	"time"
)

// brake lets the reader of a source pause while a queue fills up. A burst can be longer than a queue. If the handler is
// quick and only lacked a processor, a short pause is all that its worker needs, and nothing is lost. If the handler is
// stuck, the pause ends by itself. A queue presses the brake when it becomes half full and at each further eighth, so that
// a stuck handler costs the reader four pauses, once.
type brake struct {
	mu     sync.Mutex
	relief chan struct{} // closed when a worker comes to a queue that presses; nil: none does
}

const longestPause = time.Millisecond

// press is called by a queue that fills up.
func (b *brake) press() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.relief == nil {
		b.relief = make(chan struct{})
	}
}

// pressed reports that a queue presses.
func (b *brake) pressed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.relief != nil
}

// release is called when a worker has come for the events of a queue that had pressed.
func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.relief != nil {
		close(b.relief)
		b.relief = nil
	}
}

// pause returns at once if no queue presses, and otherwise when a worker has come to one that did, or after a millisecond.
func (b *brake) pause() {
	b.mu.Lock()
	relief := b.relief
	b.mu.Unlock()
	if relief == nil {
		return
	}
	moment := time.NewTimer(longestPause)
	defer moment.Stop()
	select {
	case <-relief:
	case <-moment.C:
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.relief == relief {
			b.relief = nil
		}
	}
}
