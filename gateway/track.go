package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pghub/pghub"
)

// track is how far a client has come in some topics that can be had again. What comes live is handed on, or, while the client
// is behind, read from the source: first what follows the mark, up to where nothing more is there, while what comes live
// is held. Then what is held goes out, without what was read, and from then on what comes live does. There is no gap, since the
// subscription was in effect before the reading began, and no repetition, since nothing up to the mark goes out again.
//
// Nothing is ever dropped: where the client has no room the mark stays where it is. Where too much is held it is thrown
// away, and read once more. So a slow client costs no more memory than a quick one.
//
// All fields but client, source, ctx, end and began are owned by client.mu.
type track struct {
	client *client
	source source
	ctx    context.Context // of the reading: ends when no topic is left, or with the client's
	end    context.CancelFunc

	topics []string
	at     pghub.Position    // everything up to here has gone out
	floors map[string]uint64 // of the history: where some topics begin, if that is behind at
	behind bool              // it reads
	held   []marked
	size   int  // of what is held
	spilt  bool // something was not held

	began time.Time // when the first event was read; zero: none yet. Owned by who reads
}

func newTrack(c *client, s source) *track {
	t := &track{client: c, source: s}
	t.ctx, t.end = context.WithCancel(c.ctx)
	return t
}

type marked struct {
	at pghub.Position
	item
}

// maxHeld is how many bytes are held, at most, for all tracks of a client that read.
const maxHeld = 128 << 10

// trackLocked is the track that a topic is on.
func (c *client) trackLocked(topic string) *track {
	for _, t := range c.tracks {
		if slices.Contains(t.topics, topic) {
			return t
		}
	}
	return nil
}

// take hands on an event that comes live.
func (c *client) take(it item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := c.wantsLocked(it)
	t, id := c.trackLocked(it.topic), idOf(it.data)
	if t == nil || len(id) == 0 {
		if wanted {
			c.put(it)
		}
		return
	}
	at := markOf(id)
	switch {
	case at.Compare(t.at) <= 0: // it has it
	case t.behind && !wanted:
	case t.behind:
		t.holdLocked(at, it)
	case !wanted, c.sendLocked(it):
		t.at = at
		t.uniteLocked()
	default:
		t.fallBehindLocked()
		t.holdLocked(at, it)
	}
}

// sendLocked puts an event into the outbox, if there is room for it.
func (c *client) sendLocked(it item) bool {
	taken, ended := c.out.offer(it)
	if ended {
		c.closedFor(&c.gateway.counters.slow)
	}
	return taken
}

// uniteLocked takes in those of the client's tracks that have come as far: they go on together.
func (t *track) uniteLocked() {
	if t.behind || len(t.client.tracks) == 1 {
		return
	}
	t.client.tracks = slices.DeleteFunc(t.client.tracks, func(other *track) bool {
		as := other != t && other.source == t.source && !other.behind && other.at.Compare(t.at) < 0
		if as {
			t.topics = append(t.topics, other.topics...)
			t.uniteFloorsLocked(other.floors)
			other.end()
		}
		return as
	})
}

// uniteFloorsLocked takes in another track's floors, of topics that there are.
func (t *track) uniteFloorsLocked(other map[string]uint64) {
	floors := make(map[string]uint64)
	for _, topic := range t.topics {
		if f := max(t.floors[topic], other[topic]); f > 0 {
			floors[topic] = f
		}
	}
	t.floors = floors
}

func (t *track) holdLocked(at pghub.Position, it item) {
	if t.spilt {
		return
	}
	t.held = append(t.held, marked{at, it})
	t.size += it.cost()
	all, largest := 0, t
	for _, other := range t.client.tracks {
		all += other.size
		if other.size > largest.size {
			largest = other
		}
	}
	if all > maxHeld {
		largest.spillLocked()
	}
}

// spillLocked has everything behind the mark read once more.
func (t *track) spillLocked() { t.spilt, t.held, t.size = true, nil, 0 }

// fallBehindLocked has the track read on from its mark.
func (t *track) fallBehindLocked() {
	if !t.behind {
		t.behind = true
		t.announceLocked("replay")
		go t.run()
	}
}

// announceLocked says that from here on events of the track's topics come from the past ("replay"), or as they happen ("live").
func (t *track) announceLocked(action string) {
	message, err := json.Marshal(trackAdvisory{Key: []int64{}, Value: trackValue{Action: action, Topics: t.topics}})
	if err == nil { // always
		t.client.put(item{kind: kindAdvisory, data: message})
	}
}

// trackAdvisory is an advisory of the gateway's own.
type trackAdvisory struct {
	Topic *string    `json:"topic"`
	Key   []int64    `json:"key"`
	Value trackValue `json:"value"`
}

type trackValue struct {
	Action string   `json:"action"`
	Topics []string `json:"topics"`
	Final  bool     `json:"final"`
}

// missingMessage says that it is not known how many events of topics are missing at this place.
func missingMessage(topics []string, reason string) []byte {
	list, err := json.Marshal(topics)
	if err != nil {
		list = []byte("[]") // never
	}
	return append(append(append([]byte(`{"topic":null,"key":[],"value":{"action":"lag","dropped":null,"reason":"`+reason+`","topics":`), list...), `,"final":false}`...), '}')
}

// tellMissingLocked says that events are missing in front of the mark, which is the message's id: who comes back with it is not told again,
// although no event may have come meanwhile.
func (t *track) tellMissingLocked(reason string) {
	t.client.put(item{kind: kindAdvisory, data: withID(missingMessage(t.topics, reason), t.source.id(t.at))})
}

// run reads until the client has caught up, or leaves, or wants none of the topics any more.
func (t *track) run() {
	c := t.client
	c.gateway.counters.replays.Add(1)
	defer c.gateway.counters.replays.Add(-1)
	failures := 0
	for {
		if c.out.awaitRoom(t.ctx) != nil {
			return
		}
		switch all, err := t.read(); {
		case t.ctx.Err() != nil:
			return
		case err != nil:
			if !t.goOn(err) {
				c.gateway.cfg.Logger.Debug("gateway: a replay waits", "error", err)
				pause := min(100*time.Millisecond<<min(failures, 6), 5*time.Second)
				if pausing(t.ctx, pause/2+rand.N(pause/2)) != nil {
					return
				}
				failures++
			}
		case all && t.caughtUp():
			return
		default:
			failures = 0
		}
	}
}

// goOn takes note of events that are missing for good.
func (t *track) goOn(err error) bool {
	var gone *missing
	if !errors.As(err, &gone) {
		return false
	}
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	t.at = gone.until
	t.tellMissingLocked(gone.reason)
	return true
}

// read reads what follows the mark, up to the end (all), or for as long as there is room.
func (t *track) read() (all bool, err error) {
	c := t.client
	c.mu.Lock()
	after, floors, topics := t.at, t.floors, slices.Clone(t.topics)
	t.held, t.size, t.spilt = nil, 0, false
	c.mu.Unlock()
	t.began = time.Time{}
	if len(topics) == 0 {
		return true, nil
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	return t.source.read(ctx, after, floors, topics, t.add)
}

// add hands on what was read. It is false when there is no room for more, or others may want to read.
func (t *track) add(at pghub.Position, it item) bool {
	if t.began.IsZero() {
		t.began = time.Now()
	}
	if !t.addNow(at, it) {
		return false
	}
	if !t.client.out.hasRoom() {
		// What was read and is not taken is read again: a client that is quick enough is waited for.
		ctx, cancel := context.WithTimeout(t.ctx, roomPatience)
		defer cancel()
		if t.client.out.awaitRoom(ctx) != nil {
			return false
		}
	}
	return time.Since(t.began) < readPatience
}

const (
	roomPatience = 50 * time.Millisecond
	readPatience = time.Second // from the first event on, so that each reading comes further, however slow the database is
)

func (t *track) addNow(at pghub.Position, it item) bool {
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(t.topics, it.topic) && c.wantsLocked(it) {
		if !c.sendLocked(it) {
			return false
		}
		c.gateway.counters.replayed.Add(1)
	}
	t.at = at
	return true
}

// caughtUp hands on what was held, and ends the reading, unless there is more to be read.
func (t *track) caughtUp() bool {
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.spilt {
		return false
	}
	for _, m := range t.held {
		if m.at.Compare(t.at) <= 0 || !slices.Contains(t.topics, m.topic) {
			continue
		}
		if !c.sendLocked(m.item) {
			return false // and the rest is read
		}
		t.at = m.at
	}
	t.held, t.size, t.behind = nil, 0, false
	if len(t.topics) > 0 {
		t.announceLocked("live")
	}
	return true
}
