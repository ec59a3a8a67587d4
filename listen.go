package pghub

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// listenState is the part of the router that keeps a session's topics in step with what is wanted. It compares states
// rather than following calls: however Subscribe and Unsubscribe interleave, a channel that is marked as changed is looked
// at when the session is free to write, and is asked for, or left, or is right as it is. All owned by router.mu.
type listenState struct {
	wake      chan<- struct{} // the session's: there are changes. nil: no session
	dirty     []*channel      // may differ from what the server listens to
	owed      int             // channels that the server must have answered for before the session is announced
	connected bool            // connect has been announced
	gap       Gap             // since the last session was lost
	startErr  error           // why a topic recorded before Start is refused
}

var errUnsubscribed = errors.New("unsubscribed meanwhile")

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

// Attach begins a session: everything wanted has to be listened to, the busiest channels first, since the server looks
// through its list for every notification.
func (r *router) Attach(wake chan<- struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake, r.startErr = wake, nil
	for _, ch := range r.channels {
		ch.refusal, ch.alone = nil, false
		ch.owed = true
		r.owed++
		r.changedLocked(ch)
	}
	slices.SortFunc(r.dirty, func(a, b *channel) int { return cmp.Compare(b.received, a.received) })
}

// Changes returns what to ask the server for. unannounced: the session listens to everything wanted as it is, and any
// answer will do to announce it.
func (r *router) Changes() (changes []source.Change, unannounced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.dirty {
		ch.dirty = false
		switch wanted := ch.wanted(); {
		case wanted && ch.state != channelListening:
			ch.state = channelAsking
		case !wanted && ch.state == channelListening:
			ch.state = channelLeaving
		default:
			r.settledLocked(ch)
			continue
		}
		changes = append(changes, source.Change{Topic: ch.name, Listen: ch.state == channelAsking, Alone: ch.alone})
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
	if !ch.wanted() && ch.state != channelListening && r.channels[ch.name] == ch {
		delete(r.channels, ch.name)
	}
}

// Acknowledge takes the server's answer to changes. fatal: a topic that was recorded before Start is refused, there is no
// start.
func (r *router) Acknowledge(changes []source.Change, refused error) (fatal error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, change := range changes {
		ch := r.channels[change.Topic]
		switch {
		case refused == nil && change.Listen:
			r.listenedLocked(ch)
		case refused == nil:
			r.leftLocked(ch)
		default:
			r.refusedLocked(ch, change.Listen, len(changes) == 1, refused)
		}
	}
	r.announceLocked()
	return r.startErr
}

// listenedLocked: the server listens to a channel from here on.
func (r *router) listenedLocked(ch *channel) {
	ch.state, ch.alone = channelListening, false
	if !ch.wanted() { // all went meanwhile
		r.changedLocked(ch)
	}
	r.settledLocked(ch)
	if r.phase != phaseListening {
		return // the subscriptions are put into effect when the session is announced
	}
	if ch.refusal != nil {
		// It was refused when the connection came back. What was committed until now is missing.
		gap := Gap{Since: ch.missing, Until: time.Now(), Err: ch.refusal}
		ch.refusal, ch.missing = nil, time.Time{}
		r.adviseGapLocked(ch, gap)
	}
	r.activatePendingLocked(ch)
}

// leftLocked: the server no longer listens to a channel.
func (r *router) leftLocked(ch *channel) {
	ch.state, ch.alone = channelIdle, false
	if ch.wanted() { // somebody came meanwhile
		r.changedLocked(ch)
	}
	r.settledLocked(ch)
}

// refusedLocked: the server will not listen to a channel, or not leave it. If others were refused with it, it may not be
// the one at fault, and is asked for alone. Otherwise calls of Subscribe are told and undone; subscriptions that were in
// effect before the connection was lost stay, and are tried again.
func (r *router) refusedLocked(ch *channel, listen, alone bool, cause error) {
	if ch.state = channelIdle; !listen {
		ch.state = channelListening
	}
	switch {
	case !alone:
		ch.alone = true
		r.changedLocked(ch)
	case listen:
		ch.state = channelRefused
		r.failedLocked(ch, &ListenError{Topic: ch.name, Err: cause})
	default:
		r.report.trouble("refused", &ListenError{Topic: ch.name, Err: cause})
		r.settledLocked(ch)
	}
	if ch.state == channelListening && r.phase == phaseListening {
		r.activatePendingLocked(ch) // of those who came while it was to be left
	}
}

func (r *router) failedLocked(ch *channel, err *ListenError) {
	if ch.refusal == nil {
		r.report.trouble("refused", err)
	}
	ch.refusal = err
	if ch.missing.IsZero() && len(ch.groups) > 0 {
		ch.missing = r.gap.Since
	}
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

// Retry asks again for what the server refused.
func (r *router) Retry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.channels {
		if ch.state == channelRefused || ch.state == channelListening && !ch.wanted() {
			r.changedLocked(ch)
		}
	}
}

// detach ends a session. Where it had been announced, everybody is told of the loss.
func (r *router) detach(lastAlive time.Time, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = nil
	r.dirty, r.owed = r.dirty[:0], 0
	for _, ch := range r.channels {
		ch.state, ch.dirty, ch.owed = channelIdle, false, false
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
