package bridge

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats are the figures of a [Bridge] since New, taken at a moment of their own each.
type Stats struct {
	Routes []RouteStats // in the order of Config.Routes
}

// RouteStats are the figures of a route in this process.
type RouteStats struct {
	Name string

	Sent      uint64 // messages handed to the sink, each time
	Confirmed uint64 // that the broker has taken
	Retried   uint64 // attempts of messages that failed, and were, or are to be, sent again
	Refused   uint64 // messages that the broker refused for good, or that could not be written in the form wanted
	Parked    uint64 // of these, put aside by the source
	Lost      uint64 // events of a source that keeps none, that were in hand when the bridge was cut off
	Gaps      uint64 // where events may be missing

	InHand int           // events that were delivered to the route, and are not settled
	Lag    time.Duration // how old the oldest of these is. 0: there is none

	Failing   bool  // the last attempt has failed
	LastError error // of that, or of an earlier one
}

// figures are what a route counts.
type figures struct {
	sent, confirmed, retried, refused, parked, lost, gaps atomic.Uint64
	inHand                                                atomic.Int64

	mu      sync.Mutex
	hands   map[*hand]struct{}
	failing bool
	last    error
}

// hand is a delivery under way.
type hand struct{ oldest time.Time } // guarded by figures.mu

func (f *figures) begin(items int, oldest time.Time) *hand {
	h := &hand{oldest}
	f.inHand.Add(int64(items))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hands == nil {
		f.hands = make(map[*hand]struct{})
	}
	f.hands[h] = struct{}{}
	return h
}

// advance says which is the oldest that is left of a delivery.
func (f *figures) advance(h *hand, settled int, oldest time.Time) {
	f.inHand.Add(-int64(settled))
	f.mu.Lock()
	defer f.mu.Unlock()
	h.oldest = oldest
}

func (f *figures) end(h *hand, left int) {
	f.inHand.Add(-int64(left))
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hands, h)
}

// answered notes how an attempt ended, and says whether it succeeded behind one that had failed.
func (f *figures) answered(err error) (recovered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	recovered = f.failing && err == nil
	if f.failing = err != nil; err != nil {
		f.last = err
	}
	return recovered
}

func (f *figures) stats(name string) RouteStats {
	st := RouteStats{
		Name: name, Sent: f.sent.Load(), Confirmed: f.confirmed.Load(), Retried: f.retried.Load(), Refused: f.refused.Load(), Parked: f.parked.Load(),
		Lost: f.lost.Load(), Gaps: f.gaps.Load(), InHand: int(f.inHand.Load()),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st.Failing, st.LastError = f.failing, f.last
	for h := range f.hands {
		if age := time.Since(h.oldest); !h.oldest.IsZero() && age > st.Lag {
			st.Lag = age
		}
	}
	return st
}

func (f *figures) isFailing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failing
}
