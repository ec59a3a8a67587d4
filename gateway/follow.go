package gateway

import (
	"context"
	"slices"
)

// follow puts topics that are about to be subscribed to on tracks. The returned function begins what there is to be read, once the
// subscription is in effect. now is where the client is when it has got that, from is where it is before.
func (c *client) follow(ctx context.Context, topics []string, since *cursor) (now, from cursor, begin func(), err error) {
	p := c.gateway.past
	if now, err = p.now(ctx); err != nil {
		return now, now, nil, err
	}
	if since != nil && since.hasStart {
		if since, err = p.beginning(ctx, since.start); err != nil {
			return now, now, nil, err
		}
	}
	from = now
	var begun []func()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range p.sources() {
		t := newTrack(c, s)
		for _, topic := range topics {
			if s.has(topic) && c.trackLocked(topic) == nil {
				t.topics = append(t.topics, topic)
			}
		}
		if len(t.topics) == 0 {
			t.end()
			continue
		}
		if t.beginLocked(now, since) {
			begun = append(begun, t.catchUp)
		}
		if t.floors != nil {
			from.number = uint64(t.at.ID)
		}
		c.tracks = append(c.tracks, t)
	}
	switch {
	case since == nil:
	case since.hasStart:
		from.at = since.at
	default:
		if !since.at.IsZero() {
			from.at = since.at
		}
		if since.epoch == from.epoch {
			from.number = since.number
		}
		now = from
	}
	return now, from, func() {
		for _, b := range begun {
			b()
		}
	}, nil
}

// beginLocked sets the track's mark. It says whether there may be something to be read.
func (t *track) beginLocked(now cursor, since *cursor) (reads bool) {
	_, ofStream := t.source.(streamSource)
	if ofStream {
		t.at = now.at
	} else {
		t.at = numbered(now.number)
	}
	switch {
	case since == nil:
		return false
	case since.hasStart && ofStream:
		t.at = since.at
	case since.hasStart:
		t.floors, t.at = t.client.gateway.past.history.starts(t.topics)
	case ofStream && since.at.IsZero(), !ofStream && since.epoch == "":
		t.tellMissingLocked("unknown")
		return false
	case ofStream:
		t.at = since.at
	case since.epoch != now.epoch: // of another process, which may have heard the same
		t.tellMissingLocked("history")
		return false
	default:
		t.at = numbered(since.number)
	}
	t.behind = true
	return true
}

// catchUp begins to read. Whether there is anything only the source knows: of topics that nobody followed no event has come this way.
func (t *track) catchUp() {
	c := t.client
	c.mu.Lock()
	t.announceLocked("replay")
	c.mu.Unlock()
	go t.run()
}

// unfollow takes topics off their tracks.
func (c *client) unfollow(topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept []string
	c.kept = slices.DeleteFunc(c.kept, func(topic string) bool {
		gone := slices.Contains(topics, topic)
		if gone {
			kept = append(kept, topic)
		}
		return gone
	})
	if len(kept) > 0 {
		c.gateway.past.release(kept)
	}
	for _, t := range c.tracks {
		t.topics = slices.DeleteFunc(slices.Clone(t.topics), func(topic string) bool { return slices.Contains(topics, topic) })
	}
	c.tracks = slices.DeleteFunc(c.tracks, func(t *track) bool {
		if len(t.topics) == 0 {
			t.end()
		}
		return len(t.topics) == 0
	})
}

// keptTopics are the topics of the client that the past keeps.
func (c *client) keptTopics() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.kept)
}

// resume has the track of a topic read on, if it is of a stream, or with "" all: events were lost on their way here. It says whether
// nothing is missing then. Without a topic the hub had the events, and so the history has them; with one it had not.
func (c *client) resume(topic string) (all bool) {
	if c.gateway.past == nil || c.raw {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tracked := 0
	for _, t := range c.tracks {
		tracked += len(t.topics)
		_, ofStream := t.source.(streamSource)
		switch {
		case topic != "" && !(ofStream && slices.Contains(t.topics, topic)):
			continue
		case t.behind: // what was lost may be behind what is being read, and in front of what is held
			t.spillLocked()
		default:
			t.fallBehindLocked()
		}
		all = true
	}
	return all && (topic != "" || tracked == len(c.kept))
}
