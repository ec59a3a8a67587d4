package pghub

import (
	"slices"
	"sync"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// router knows who wants which topics. It is the sink of every source: a session hands it what arrives (see route.go), and
// learns from it what to listen to (see listen.go). It does no I/O.
type router struct {
	report    *reporter
	delivery  *delivery
	brake     *brake
	began     time.Time
	listening func() // called with mu held when a session has come to listen to everything

	mu        sync.Mutex
	phase     phase
	consumers map[*Consumer]struct{}
	channels  map[string]*channel
	fed       map[string]struct{} // topics that a guest brings
	lastSeq   uint64
	accounts  map[string]*ConsumerStats // see tally.go

	listenState // see listen.go

	received, unwanted, undecodable uint64

	// Scratch space of route.
	arrived time.Duration // the burst did, since began
	staged  []*Consumer   // with runs of the burst
	ready   []*Consumer   // woken by it
	spare   [][]run       // buffers for Consumer.staged
}

var _ source.Sink = (*router)(nil)

// phase of the router.
type phase int

const (
	phaseIdle      phase = iota // before Start
	phaseAway                   // no session, or one that does not listen to everything yet
	phaseListening              // what arrives is routed
	phaseStopped
)

func newRouter(report *reporter, delivery *delivery, b *brake) *router {
	return &router{
		report:    report,
		delivery:  delivery,
		brake:     b,
		began:     time.Now(),
		listening: func() {},
		consumers: make(map[*Consumer]struct{}),
		channels:  make(map[string]*channel),
		fed:       make(map[string]struct{}),
		accounts:  make(map[string]*ConsumerStats),
	}
}

// feeds notes that a guest brings events of topics, without a gap when a session is lost.
func (r *router) feeds(topics []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range topics {
		r.fed[t] = struct{}{}
	}
}

// start has calls of Subscribe wait for the server from now on.
func (r *router) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phaseAway
}

// stop ends the router: nothing is routed any more, calls that wait get ErrStopped. It returns who is left.
func (r *router) stop() []*Consumer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phaseStopped
	r.wake = nil
	left := make([]*Consumer, 0, len(r.consumers))
	for c := range r.consumers {
		left = append(left, c)
		for _, sub := range c.subs {
			sub.settle(ErrStopped)
		}
	}
	for _, ch := range r.channels {
		for _, req := range ch.gone {
			req.settle(nil)
		}
		ch.gone = nil
	}
	return left
}

// add registers a consumer.
func (r *router) add(c *Consumer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == phaseStopped {
		return ErrStopped
	}
	r.consumers[c] = struct{}{}
	r.accountLocked(c.name) // while there is room for names
	c.greeted = r.phase == phaseListening
	return nil
}

// forget drops a consumer that has had its last event, but not its figures.
func (r *router) forget(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeAllLocked(c)
	if _, known := r.consumers[c]; known {
		delete(r.consumers, c)
		r.accountLocked(c.name).add(c.figures())
	}
}

// subscribe adds topics to a consumer. The request ends when all of them are in effect.
func (r *router) subscribe(c *Consumer, topics []string) (*request, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.phase == phaseStopped:
		return nil, ErrStopped
	case c.closed:
		return nil, ErrClosed
	}
	req := newRequest()
	var added []*subscription
	for _, topic := range distinct(topics) {
		_, sub := c.findLocked(topic)
		if sub == nil {
			sub = r.newSubscriptionLocked(c, topic)
			added = append(added, sub)
		}
		req.subs = append(req.subs, sub)
		sub.asking++
		sub.recorded = sub.recorded || r.phase == phaseIdle
	}
	c.insertLocked(added)
	for _, sub := range added {
		if ch := sub.ch; r.phase == phaseListening && ch.state == channelListening {
			r.activateLocked(sub)
		} else {
			ch.pending = append(ch.pending, sub)
			r.changedLocked(ch)
		}
	}
	for _, sub := range req.subs {
		inEffect := r.phase == phaseListening && sub.group != nil && (sub.ch.state == channelListening || sub.ch.state == channelLeaving)
		if !inEffect && r.phase != phaseIdle {
			sub.waits = append(sub.waits, req)
			req.left++
			if sub.ch.state == channelRefused {
				r.changedLocked(sub.ch) // it is tried again for whoever asks
			}
		}
	}
	req.settle(nil)
	return req, nil
}

// distinct leaves out what stands in topics before.
func distinct(topics []string) []string {
	if len(topics) < 2 {
		return topics
	}
	seen := make(map[string]struct{}, len(topics))
	first := make([]string, 0, len(topics))
	for _, t := range topics {
		if _, before := seen[t]; !before {
			seen[t] = struct{}{}
			first = append(first, t)
		}
	}
	return first
}

func (r *router) newSubscriptionLocked(c *Consumer, topic string) *subscription {
	ch := r.channels[topic]
	if ch == nil {
		ch = &channel{name: topic}
		r.channels[topic] = ch
	}
	r.lastSeq++
	c.unsettled++
	return &subscription{c: c, ch: ch, seq: r.lastSeq}
}

// activateLocked puts a subscription into effect: it is announced, and events follow.
func (r *router) activateLocked(sub *subscription) {
	sub.ch.join(sub)
	r.adviseLocked(sub.c, newAdvisory(Advisory{Action: ActionSubscribe, Topic: sub.ch.name}))
	sub.settle(nil)
	r.settledOneLocked(sub.c)
}

// settledOneLocked notes that one subscription less of a consumer waits to be in effect. The first time that none does,
// Resync is asked for, if the consumer wants that.
func (r *router) settledOneLocked(c *Consumer) {
	c.unsettled--
	inEffect := func(sub *subscription) bool { return sub.group != nil && !sub.ended }
	if c.loadFirst && c.unsettled == 0 && slices.ContainsFunc(c.subs, inEffect) {
		c.loadFirst = false
		r.adviseLocked(c, newResyncMark())
	}
}

func (r *router) adviseLocked(c *Consumer, ev *Event) {
	if c.queue.advise(ev) || c.linger.hurries(c) {
		r.delivery.add(c)
	}
}

// giveUp ends a Subscribe call whose context ended, and undoes what it added, unless the request has just ended.
func (r *router) giveUp(req *request, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.left == 0 {
		return req.err
	}
	req.fail(cause)
	r.undoLocked(req)
	return req.err
}

// undoLocked removes what a failed Subscribe call asked for, unless another one had success with it or still waits.
func (r *router) undoLocked(req *request) {
	var gone []*subscription
	for _, sub := range req.subs {
		sub.waits = slices.DeleteFunc(sub.waits, func(w *request) bool { return w == req })
		if sub.asking--; sub.asking == 0 && !sub.ended {
			gone = append(gone, sub)
		}
	}
	req.subs = nil
	if len(gone) > 0 {
		r.revokeLocked(gone[0].c, gone) // all at once: none of them counts as in effect meanwhile
	}
}

// unsubscribe removes topics from a consumer. The request ends when the server listens to none that nobody wants.
func (r *router) unsubscribe(c *Consumer, topics []string) *request {
	r.mu.Lock()
	defer r.mu.Unlock()
	req := newRequest()
	var gone []*subscription
	var failed []*request // calls of Subscribe
	for _, topic := range distinct(topics) {
		if _, sub := c.findLocked(topic); sub != nil {
			gone = append(gone, sub)
			failed = append(failed, sub.waits...)
		}
	}
	r.revokeLocked(c, gone)
	for _, f := range failed {
		r.undoLocked(f)
	}
	for _, sub := range gone {
		ch := sub.ch
		onServer := ch.state == channelListening || ch.state == channelLeaving
		if r.phase == phaseListening && onServer && !ch.wanted() {
			ch.gone = append(ch.gone, req)
			req.left++
		}
	}
	req.settle(nil)
	return req
}

// revokeLocked removes subscriptions of a consumer together with what waits of them in the queue.
func (r *router) revokeLocked(c *Consumer, gone []*subscription) {
	var inEffect []string
	for _, sub := range gone {
		sub.ended = true
	}
	for _, sub := range gone {
		if sub.group != nil {
			inEffect = append(inEffect, sub.ch.name)
		}
		r.unsubscribeLocked(sub, errUnsubscribed)
	}
	c.deleteLocked(gone)
	if len(inEffect) > 0 {
		c.queue.revoke(inEffect...)
	}
}

// unsubscribeLocked ends a subscription; Subscribe calls that wait for it get err. It is still in Consumer.subs.
func (r *router) unsubscribeLocked(sub *subscription, err error) {
	sub.ended = true
	waited := sub.group == nil
	sub.ch.leave(sub)
	sub.settle(err)
	if waited {
		r.settledOneLocked(sub.c)
	}
	if !sub.ch.wanted() {
		r.changedLocked(sub.ch)
	}
}

// remove unsubscribes a consumer from everything, for good.
func (r *router) remove(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeAllLocked(c)
}

func (r *router) removeAllLocked(c *Consumer) {
	c.closed, c.loadFirst = true, false
	for _, sub := range c.subs {
		r.unsubscribeLocked(sub, ErrClosed)
	}
	c.subs = nil
}

func (r *router) topicsOf(c *Consumer) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.topicsLocked()
}
