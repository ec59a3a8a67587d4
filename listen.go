package pghub

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// listenState is the part of the router that keeps the server's set of channels in step with what is wanted. It compares
// states rather than following calls: however Subscribe and Unsubscribe interleave, a channel that is marked as changed
// is looked at when the session is free to write, and is asked for, or left, or is right as it is. All owned by router.mu.
type listenState struct {
	wake      chan<- struct{} // the session's: there are changes. nil: no session
	dirty     []*channel      // may differ from what the server listens to
	owed      int             // channels that the server must have answered for before the session is announced
	connected bool            // connect has been announced
	gap       Gap             // since the last session was lost
	startErr  error           // why a topic recorded before Start is refused
}

// change is a LISTEN, or an UNLISTEN, that the server is to be asked for.
type change struct {
	ch     *channel
	listen bool
}

// request is a Subscribe or Unsubscribe call that waits. left and err are owned by router.mu; once done is closed err
// may be read.
type request struct {
	left int // what it still waits for, and 1 while it is being made
	err  error
	subs []*subscription // that a Subscribe call asks for
	done chan struct{}
}

var errUnsubscribed = errors.New("unsubscribed meanwhile")

func newRequest() *request { return &request{left: 1, done: make(chan struct{})} }

// settle ends one of the things that a request waits for, or all of them if err is not nil.
func (req *request) settle(err error) {
	switch {
	case req.left == 0:
	case err != nil:
		req.fail(err)
	default:
		if req.left--; req.left == 0 {
			close(req.done)
		}
	}
}

func (req *request) fail(err error) {
	req.left, req.err = 0, err
	close(req.done)
}

// changedLocked notes that a channel may have to be listened to, or left. Between sessions there is nothing to note: one
// begins with all that is wanted then.
func (r *router) changedLocked(ch *channel) {
	if r.wake == nil {
		if !ch.wanted() {
			delete(r.channels, ch.name)
		}
		return
	}
	if !ch.dirty {
		ch.dirty = true
		r.dirty = append(r.dirty, ch)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// start has calls of Subscribe wait for the server from now on.
func (r *router) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phaseAway
}

// attach begins a session: everything wanted has to be listened to, the busiest channels first, since the server looks
// through its list for every notification. wake is sent to when there are changes.
func (r *router) attach(wake chan<- struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = wake
	for _, ch := range r.channels {
		ch.refused, ch.alone = nil, false
		ch.owed = true
		r.owed++
		r.changedLocked(ch)
	}
	slices.SortFunc(r.dirty, func(a, b *channel) int { return cmp.Compare(b.received, a.received) })
}

// changes returns what to ask the server for. It must have answered all that it was asked before. unannounced: the session
// listens to everything wanted as it is, and any answer will do to announce it.
func (r *router) changes() (changes []change, unannounced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.dirty {
		ch.dirty = false
		switch wanted := ch.wanted(); {
		case wanted && !ch.listening:
			changes = append(changes, change{ch, true})
		case !wanted && ch.listening:
			ch.leaving = true
			changes = append(changes, change{ch, false})
		default:
			r.settledLocked(ch)
		}
	}
	r.dirty = r.dirty[:0]
	return changes, len(changes) == 0 && r.owed == 0 && r.phase == phaseAway
}

// settledLocked ends what waits for a channel to be as wanted, and drops it if it is not wanted at all.
func (r *router) settledLocked(ch *channel) {
	if ch.owed {
		ch.owed = false
		r.owed--
	}
	for _, req := range ch.gone {
		req.settle(nil)
	}
	ch.gone = nil
	if !ch.wanted() && !ch.listening && r.channels[ch.name] == ch {
		delete(r.channels, ch.name)
	}
}

// acknowledge takes the server's answer to a statement: cause is nil if all its changes are in effect now, and otherwise
// none of them is. announced: the session listens to everything since this moment. err: a topic that was recorded before
// Start is refused, there is no start.
func (r *router) acknowledge(changes []change, cause error) (announced bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		ch := c.ch
		ch.leaving = false
		switch {
		case cause == nil:
			ch.listening = c.listen
			r.acknowledgedLocked(ch)
		case len(changes) > 1:
			ch.alone = true
			r.changedLocked(ch)
		default:
			r.refusedLocked(ch, cause)
		}
		if cause != nil && ch.listening && r.phase == phaseListening {
			r.activatePendingLocked(ch) // of those who came while it was to be left
		}
	}
	return r.announceLocked(), r.startErr
}

func (r *router) acknowledgedLocked(ch *channel) {
	ch.alone = false
	if ch.wanted() != ch.listening { // somebody came, or all went, meanwhile
		r.changedLocked(ch)
	}
	r.settledLocked(ch)
	if r.phase != phaseListening || !ch.listening {
		return // the subscriptions are put into effect when the session is announced
	}
	if ch.refused != nil {
		ch.refused = nil
		for _, g := range ch.groups {
			for _, m := range g.members {
				r.adviseLocked(m.c, newAdvisory(Advisory{Action: ActionSubscribe, Topic: ch.name}))
			}
		}
	}
	r.activatePendingLocked(ch)
}

func (r *router) activatePendingLocked(ch *channel) {
	for _, g := range ch.groups {
		for _, m := range g.members {
			m.sub.settle(nil)
		}
	}
	pending := ch.pending
	ch.pending = nil
	for _, sub := range pending {
		r.activateLocked(sub)
	}
}

// refusedLocked takes note that the server will not listen to a channel. Subscribe calls are told and undone;
// subscriptions that were in effect before the connection was lost stay, and are tried again.
func (r *router) refusedLocked(ch *channel, cause error) {
	err := &ListenError{Topic: ch.name, Err: cause}
	if ch.refused == nil {
		r.report.trouble("refused", err)
	}
	ch.refused = err
	var failed []*request
	for _, sub := range ch.pending {
		if sub.recorded && !r.connected && r.startErr == nil {
			r.startErr = err
		}
		failed = append(failed, sub.waits...)
		sub.settle(err)
	}
	for _, g := range ch.groups {
		for _, m := range g.members {
			failed = append(failed, m.sub.waits...)
			m.sub.settle(err)
		}
	}
	for _, req := range failed {
		r.undoLocked(req)
	}
	r.settledLocked(ch)
}

// retryRefused asks again for the channels that the server refused.
func (r *router) retryRefused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.channels {
		if ch.refused != nil {
			r.changedLocked(ch)
		}
	}
}

// announceLocked tells everybody that the session listens, once the server has answered for every channel.
func (r *router) announceLocked() bool {
	if r.phase != phaseAway || r.wake == nil || r.owed > 0 || r.startErr != nil {
		return false
	}
	r.phase = phaseListening
	gap := r.gap
	gap.Until = time.Now()
	connect := newAdvisory(Advisory{Action: ActionConnect})
	reconnect := newAdvisory(Advisory{Action: ActionReconnect, Gap: gap})
	for c := range r.consumers {
		switch {
		case !r.connected:
			r.adviseLocked(c, connect)
		case c.greeted:
			r.adviseLocked(c, reconnect)
		}
		c.greeted = true
	}
	r.connected = true

	var pending []*subscription
	for _, ch := range r.channels {
		if ch.listening && !ch.leaving {
			pending = append(pending, ch.pending...)
			ch.pending = nil
			r.activatePendingLocked(ch)
		}
	}
	slices.SortFunc(pending, func(a, b *subscription) int { return cmp.Compare(a.seq, b.seq) })
	for _, sub := range pending {
		r.activateLocked(sub)
	}
	return true
}

// detach ends a session. Where it had been announced, everybody is told of the loss.
func (r *router) detach(lastAlive time.Time, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = nil
	r.dirty, r.owed = r.dirty[:0], 0
	for _, ch := range r.channels {
		ch.listening, ch.leaving, ch.dirty, ch.owed = false, false, false, false
		r.settledLocked(ch)
	}
	if r.phase != phaseListening {
		return
	}
	r.phase = phaseAway
	r.gap = Gap{Since: lastAlive, Err: cause}
	lost := newAdvisory(Advisory{Action: ActionDisconnect, Err: cause, Gap: r.gap})
	for c := range r.consumers {
		if c.greeted {
			r.adviseLocked(c, lost)
		}
	}
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
