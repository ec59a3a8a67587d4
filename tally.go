package pghub

import (
	"slices"
	"strings"
	"sync/atomic"
)

// tally counts what happens to a consumer, beside what its queue counts. Nothing of it happens to most.
type tally struct {
	panics, gaps, lags, resyncs, resyncErrors, batches atomic.Uint64
}

// count is the consumer's tally.
func (c *Consumer) count() *tally {
	if t := c.counts.Load(); t != nil {
		return t
	}
	c.counts.CompareAndSwap(nil, &tally{})
	return c.counts.Load()
}

// note counts a gap, when the handler is about to be told of it.
func (c *Consumer) note(ev *Event) {
	if a := ev.Advisory; ev.gap || a != nil && a.Action != "" && a.wantsResync() {
		c.count().gaps.Add(1)
		if a != nil && a.Action == ActionLag {
			c.count().lags.Add(1)
		}
	}
}

// add counts a consumer's figures in, but for what waits: they may be those of one that is gone.
func (s *ConsumerStats) add(other ConsumerStats) {
	s.Delivered += other.Delivered
	s.Dropped += other.Dropped
	s.Panics += other.Panics
	s.Gaps += other.Gaps
	s.Lags += other.Lags
	s.Resyncs += other.Resyncs
	s.ResyncErrors += other.ResyncErrors
	s.Batches += other.Batches
}

// addWaiting counts in what waits for a consumer.
func (s *ConsumerStats) addWaiting(other ConsumerStats) {
	s.Queued += other.Queued
	if !other.Oldest.IsZero() && (s.Oldest.IsZero() || other.Oldest.Before(s.Oldest)) {
		s.Oldest = other.Oldest
	}
}

// maxAccounts bounds the room for names, and the series of a monitoring system.
const maxAccounts = 256

// accountLocked is where a consumer's figures go when it is gone: the sums over those of its name. It is the same whenever it is
// asked for, so that a consumer that ends leaves every sum as it was.
func (r *router) accountLocked(name string) *ConsumerStats {
	account := r.accounts[name]
	if account == nil && name != "" && len(r.accounts) >= maxAccounts {
		return r.accountLocked("")
	}
	if account == nil {
		account = &ConsumerStats{Name: name}
		r.accounts[name] = account
	}
	return account
}

func (r *router) statsByName() []ConsumerStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	sums := make(map[*ConsumerStats]*ConsumerStats, len(r.accounts))
	for _, gone := range r.accounts {
		sum := *gone
		sums[gone] = &sum
	}
	for c := range r.consumers {
		one := c.figures()
		sum := sums[r.accountLocked(c.name)]
		sum.add(one)
		sum.addWaiting(one)
	}
	all := make([]ConsumerStats, 0, len(sums))
	for _, sum := range sums {
		all = append(all, *sum)
	}
	slices.SortFunc(all, func(a, b ConsumerStats) int { return strings.Compare(a.Name, b.Name) })
	return all
}
