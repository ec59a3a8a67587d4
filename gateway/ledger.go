package gateway

import "sync"

// ledger counts what waits for clients beyond what each of them may have for itself. A message that waits for many counts
// once: it is there once.
type ledger struct {
	limit int // bytes

	mu     sync.Mutex
	bytes  int
	shared map[*byte]int // for how many items a message waits, by its first byte
}

func newLedger(limit int) *ledger { return &ledger{limit: limit, shared: make(map[*byte]int)} }

// each is how much one client may borrow, all that waits for it counted: one that is slow must not take all there is.
func (l *ledger) each() int { return l.limit / 8 }

// borrow counts an item in, if there is room for it.
func (l *ledger) borrow(it item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	cost := itemCost
	if len(it.data) > 0 && l.shared[&it.data[0]] == 0 {
		cost += len(it.data)
	}
	if cost > l.limit-l.bytes {
		return false
	}
	l.bytes += cost
	if len(it.data) > 0 {
		l.shared[&it.data[0]]++
	}
	return true
}

// giveBack counts those out of these items that are borrowed.
func (l *ledger) giveBack(items ...item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range items {
		if !it.borrowed {
			continue
		}
		l.bytes -= itemCost
		if len(it.data) == 0 {
			continue
		}
		first := &it.data[0]
		if l.shared[first]--; l.shared[first] == 0 {
			delete(l.shared, first)
			l.bytes -= len(it.data)
		}
	}
}

// total is how many bytes are borrowed.
func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}
