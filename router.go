package pghub

import (
	"reflect"
	"slices"
	"sync"
)

// router knows who wants which topics. It does no I/O: whatever brings notifications hands them to route, and a session
// learns from the methods in listen.go what to LISTEN to.
//
// A topic is a channel of PostgreSQL by the same name; only this type and session know of channels.
type router struct {
	report   *reporter
	delivery *delivery

	mu        sync.Mutex
	phase     phase
	consumers map[*Consumer]struct{}
	channels  map[string]*channel
	lastSeq   uint64

	listenState // see listen.go

	received, unwanted, undecodable uint64

	// Scratch space of route.
	staged []*Consumer     // with runs of the burst
	ready  []*Consumer     // woken by it
	spare  [][]run         // buffers for Consumer.staged
	relief <-chan struct{} // of a queue that has become crowded
}

// phase of the router.
type phase int

const (
	phaseIdle      phase = iota // before Start
	phaseAway                   // no session, or one that does not listen to everything yet
	phaseListening              // what arrives is routed
	phaseStopped
)

// channel is what the router knows of one channel. Its fields are owned by router.mu.
type channel struct {
	name     string
	groups   []*group        // who receives its events, by codec
	pending  []*subscription // in effect as soon as LISTEN is acknowledged
	received uint64

	listening bool       // acknowledged by the server in the present session
	leaving   bool       // UNLISTEN is under way
	dirty     bool       // is in router.dirty
	owed      bool       // counts in router.owed
	alone     bool       // was refused together with others: ask for it by itself
	refused   error      // what the server said to LISTEN
	gone      []*request // of Unsubscribe calls
}

// group is those subscriptions of a channel that share a codec: their events are decoded once.
type group struct {
	codec   Codec
	members []member
}

// member is a subscription, with its consumer at hand.
type member struct {
	c   *Consumer
	sub *subscription
}

// subscription is one consumer's interest in one topic. Its fields are owned by router.mu.
type subscription struct {
	c     *Consumer
	ch    *channel
	seq   uint64     // tells which subscription is older
	group *group     // nil until it is in effect
	index int        // in group.members
	waits []*request // of Subscribe calls
	ended bool       // unsubscribed

	asking   int  // calls of Subscribe, but for those that failed
	recorded bool // by one of them before Start
}

func newRouter(report *reporter, delivery *delivery) *router {
	return &router{
		report:    report,
		delivery:  delivery,
		consumers: make(map[*Consumer]struct{}),
		channels:  make(map[string]*channel),
	}
}

// add registers a consumer.
func (r *router) add(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.consumers[c] = struct{}{}
	c.greeted = r.phase == phaseListening
}

// forget drops a consumer that has had its last event.
func (r *router) forget(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeAllLocked(c)
	delete(r.consumers, c)
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
			sub = r.subscribeLocked(c, topic)
			added = append(added, sub)
		}
		req.subs = append(req.subs, sub)
		sub.asking++
		inEffect := sub.group != nil && sub.ch.listening && r.phase == phaseListening
		if !inEffect && r.phase != phaseIdle {
			sub.waits = append(sub.waits, req)
			req.left++
		}
		sub.recorded = sub.recorded || r.phase == phaseIdle
	}
	c.insertLocked(added)
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

func (r *router) subscribeLocked(c *Consumer, topic string) *subscription {
	ch := r.channels[topic]
	if ch == nil {
		ch = &channel{name: topic}
		r.channels[topic] = ch
	}
	r.lastSeq++
	sub := &subscription{c: c, ch: ch, seq: r.lastSeq}
	if ch.listening && !ch.leaving && r.phase == phaseListening {
		r.activateLocked(sub)
	} else {
		ch.pending = append(ch.pending, sub)
		r.changedLocked(ch)
	}
	return sub
}

// activateLocked puts a subscription into effect: it is announced, and events follow.
func (r *router) activateLocked(sub *subscription) {
	sub.group = sub.ch.groupOf(sub.c.codec)
	sub.index = len(sub.group.members)
	sub.group.members = append(sub.group.members, member{sub.c, sub})
	r.adviseLocked(sub.c, newAdvisory(Advisory{Action: ActionSubscribe, Topic: sub.ch.name}))
	sub.settle(nil)
}

func (r *router) adviseLocked(c *Consumer, ev *Event) {
	if c.queue.advise(ev) {
		r.delivery.add(c)
	}
}

// groupOf returns the group of a codec, made if need be. Codecs that cannot be compared get one each.
func (ch *channel) groupOf(codec Codec) *group {
	for _, g := range ch.groups {
		if reflect.ValueOf(codec).Comparable() && g.codec == codec {
			return g
		}
	}
	g := &group{codec: codec}
	ch.groups = append(ch.groups, g)
	return g
}

func (ch *channel) wanted() bool { return len(ch.groups)+len(ch.pending) > 0 }

// settle ends the Subscribe calls that wait for the subscription.
func (sub *subscription) settle(err error) {
	for _, req := range sub.waits {
		req.settle(err)
	}
	sub.waits = nil
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
	for _, sub := range req.subs {
		sub.waits = slices.DeleteFunc(sub.waits, func(w *request) bool { return w == req })
		if sub.asking--; sub.asking == 0 && !sub.ended {
			r.revokeLocked(sub.c, []*subscription{sub})
		}
	}
	req.subs = nil
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
		if ch := sub.ch; r.phase == phaseListening && ch.listening && !ch.wanted() {
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
	ch := sub.ch
	sub.ended = true
	if g := sub.group; g != nil {
		last := len(g.members) - 1
		g.members[sub.index] = g.members[last]
		g.members[sub.index].sub.index = sub.index
		g.members[last] = member{}
		if g.members = g.members[:last]; last == 0 {
			ch.groups = slices.DeleteFunc(ch.groups, func(other *group) bool { return other == g })
		}
		sub.group = nil
	} else {
		ch.pending = slices.DeleteFunc(ch.pending, func(other *subscription) bool { return other == sub })
	}
	sub.settle(err)
	if !ch.wanted() {
		r.changedLocked(ch)
	}
}

// remove unsubscribes a consumer from everything, for good.
func (r *router) remove(c *Consumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeAllLocked(c)
}

func (r *router) removeAllLocked(c *Consumer) {
	c.closed = true
	for _, sub := range c.subs {
		r.unsubscribeLocked(sub, ErrClosed)
	}
	c.subs = nil
}

func (r *router) topicsOf(c *Consumer) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	topics := make([]string, len(c.subs))
	for i, sub := range c.subs {
		topics[i] = sub.ch.name
	}
	return topics
}
