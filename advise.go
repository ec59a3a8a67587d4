package pghub

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// announceLocked tells everybody that the session listens, once the server has answered for every channel.
func (r *router) announceLocked() {
	if r.phase != phaseAway || r.wake == nil || r.owed > 0 || r.startErr != nil {
		return
	}
	r.phase = phaseListening
	r.listening() // State says so before any handler does
	r.greetLocked()
	r.connected = true

	var pending []*subscription
	for _, ch := range r.channels {
		if ch.state == channelListening {
			pending = append(pending, ch.pending...)
			ch.pending = nil
			r.activatePendingLocked(ch)
		}
	}
	slices.SortFunc(pending, func(a, b *subscription) int { return cmp.Compare(a.seq, b.seq) })
	for _, sub := range pending {
		r.activateLocked(sub)
	}
}

// greetLocked queues connect, or reconnect for those who know of the loss.
func (r *router) greetLocked() {
	gap := r.gap
	gap.Until = time.Now()
	connect := newAdvisory(Advisory{Action: ActionConnect})
	reconnect := newAdvisory(Advisory{Action: ActionReconnect, Gap: gap})
	gapless := newAdvisory(Advisory{Action: ActionReconnect})
	missing := r.missingLocked()
	longer := r.missingLongerLocked()
	for c := range r.consumers {
		switch {
		case !r.connected:
			r.adviseLocked(c, connect)
		case c.greeted && (missing[c] != nil || !longer[c].IsZero()):
			own := gap
			if since := longer[c]; !since.IsZero() {
				own.Since = since
			}
			r.adviseLocked(c, newAdvisory(Advisory{Action: ActionReconnect, Gap: own, Err: missing[c]}))
		case c.greeted && r.isFedLocked(c):
			r.adviseLocked(c, gapless)
		case c.greeted:
			r.adviseLocked(c, reconnect)
		}
		c.greeted = true
	}
}

// missed announces to the consumers of topics that a guest cannot bring all that there was.
func (r *router) missed(topics []string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, topic := range topics {
		if ch := r.channels[topic]; ch != nil {
			r.adviseGapLocked(ch, Gap{Since: now, Until: now, Err: why})
		}
	}
}

// adviseGapLocked tells the consumers of a channel that its events may be missing here.
func (r *router) adviseGapLocked(ch *channel, gap Gap) {
	for _, g := range ch.groups {
		for _, m := range g.members {
			r.adviseLocked(m.c, newAdvisory(Advisory{Action: ActionSubscribe, Topic: ch.name, Err: gap.Err, Gap: gap}))
		}
	}
}

// isFedLocked reports whether guests bring all topics of a consumer.
func (r *router) isFedLocked(c *Consumer) bool {
	isFed := func(sub *subscription) bool { _, fed := r.fed[sub.ch.name]; return fed }
	return len(c.subs) > 0 && len(r.fed) > 0 && !slices.ContainsFunc(c.subs, func(sub *subscription) bool { return !isFed(sub) })
}

// missingLocked returns why some consumers do not have all of their topics back.
func (r *router) missingLocked() map[*Consumer]error {
	missing := make(map[*Consumer]error)
	for _, ch := range r.channels {
		if ch.state != channelRefused {
			continue
		}
		for _, g := range ch.groups {
			for _, m := range g.members {
				missing[m.c] = errors.Join(missing[m.c], ch.refusal)
			}
		}
	}
	return missing
}

// missingLongerLocked returns since when some consumers miss events of a topic that is back now, and that the server had
// refused in sessions before this one.
func (r *router) missingLongerLocked() map[*Consumer]time.Time {
	longer := make(map[*Consumer]time.Time)
	for _, ch := range r.channels {
		if ch.state != channelListening || ch.missing.IsZero() {
			continue
		}
		for _, g := range ch.groups {
			for _, m := range g.members {
				if since, known := longer[m.c]; !known || ch.missing.Before(since) {
					longer[m.c] = ch.missing
				}
			}
		}
		ch.missing = time.Time{}
	}
	return longer
}
