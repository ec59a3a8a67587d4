package pghub

import "slices"

// batch is a number of calls that share a statement. PostgreSQL folds equal notifications of one transaction into one: so
// the n-th equal one is padded, which its codec knows how to do, and one that cannot be goes into the next batch.
//
// Its methods need publisher.mu.
type batch struct {
	calls []*call
	size  int                  // of their payloads
	left  int                  // calls whose callers have left
	texts map[notification]int // what they send: the padding that the next equal would need; nil while there is one call
	taken bool                 // nobody joins or leaves any more
	done  chan struct{}        // closed when all calls have their outcome
}

const (
	maxBatchEvents = 1024
	maxBatchBytes  = 1 << 20
)

func newBatch(c *call) *batch {
	return &batch{calls: []*call{c}, size: len(c.payload), done: make(chan struct{})}
}

// add puts a call into the batch if it fits.
func (b *batch) add(c *call) bool {
	if len(b.calls) == maxBatchEvents || b.size+len(c.payload) > maxBatchBytes {
		return false
	}
	if b.texts == nil {
		b.texts = map[notification]int{b.calls[0].notification: 1}
	}
	if !b.distinct(c) {
		return false
	}
	b.calls = append(b.calls, c)
	b.size += len(c.payload)
	return true
}

// distinct makes a notification differ from all others of the batch, if that can be done.
func (b *batch) distinct(c *call) bool {
	n, equal := b.texts[c.notification]
	if !equal {
		b.texts[c.notification] = 1
		return true
	}
	if c.pad == nil {
		return false
	}
	for ; ; n++ {
		padded := notification{c.topic, c.pad(c.payload, n)}
		if len(padded.payload) > maxPayload {
			return false
		}
		if _, taken := b.texts[padded]; !taken {
			b.texts[c.notification] = n + 1
			b.texts[padded] = 1
			c.notification = padded
			return true
		}
	}
}

// remove takes a call out of a batch that is not taken yet.
func (b *batch) remove(c *call) {
	c.left = true
	c.payload = "" // nobody needs it, and the batch may have to wait
	b.left++
}

// empty reports whether everybody has left.
func (b *batch) empty() bool { return b.left == len(b.calls) }

// take closes the batch, and forgets those who have left.
func (b *batch) take() {
	b.taken, b.texts = true, nil
	if b.left > 0 {
		b.calls = slices.DeleteFunc(b.calls, func(c *call) bool { return c.left })
	}
}
