package gateway

import (
	"context"
	"slices"
	"sync"

	"github.com/pghub/pghub"
)

// history is what this process remembers of topics that are not of a stream: a number of events, and of bytes, of all topics
// together. Each event has a number.
type history struct {
	epoch  string // tells this process's numbers from others'
	events int
	bytes  int

	mu         sync.Mutex
	number     uint64 // of the last event, or of the last break
	broken     uint64 // events may be missing before this
	reconnects uint64 // that were taken down as breaks
	lost       bool   // the connection is
	since      map[string]uint64
	dropped    map[string]uint64 // by topic: the last event that was dropped
	kept       []remembered      // in the order of their numbers
	size       int
}

type remembered struct {
	number uint64
	topic  string
	data   []byte
}

func newHistory(epoch string, events, bytes int) *history {
	return &history{epoch: epoch, events: events, bytes: bytes, since: make(map[string]uint64), dropped: make(map[string]uint64)}
}

// add remembers an event, and gives its message the number.
func (h *history) add(topic string, message []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number++
	message = withID(message, historyID(h.epoch, h.number))
	h.kept = append(h.kept, remembered{h.number, topic, message})
	h.size += itemCost + len(message)
	drop := 0
	for ; len(h.kept)-drop > h.events || h.size > h.bytes; drop++ {
		oldest := &h.kept[drop]
		h.size -= itemCost + len(oldest.data)
		if _, known := h.since[oldest.topic]; known {
			h.dropped[oldest.topic] = oldest.number
		}
		*oldest = remembered{}
	}
	h.kept = h.kept[drop:]
	return message
}

// begin says that from now on no event of a topic is missed.
func (h *history) begin(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number++ // whoever has been here before it began may have missed something
	h.since[topic] = h.number
}

// interrupt says that events of a topic may be missing before now.
func (h *history) interrupt(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, followed := h.since[topic]; followed {
		h.number++
		h.since[topic] = h.number
	}
}

// forget says that events of a topic are not followed any more.
func (h *history) forget(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, topic)
	delete(h.dropped, topic)
}

// look takes down a lost connection, in which events may be missed, once.
func (h *history) look(reconnects uint64, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lost && !h.lost || reconnects != h.reconnects {
		h.number++
		h.broken = h.number
	}
	h.lost, h.reconnects = lost, reconnects
}

func (h *history) last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.number
}

// reachesLocked says whether all events of topics behind a number, and behind their floors, are there.
func (h *history) reachesLocked(number uint64, floors map[string]uint64, topics []string) bool {
	if number > h.number {
		return false
	}
	return !slices.ContainsFunc(topics, func(t string) bool {
		from := max(number, floors[t])
		since, followed := h.since[t]
		return !followed || from < h.broken || from < since || from < h.dropped[t]
	})
}

// starts are, by topic, the first numbers from which on nothing is missing, and the first of all.
func (h *history) starts(topics []string) (floors map[string]uint64, first pghub.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	floors = make(map[string]uint64)
	least := h.number
	for _, t := range topics {
		floors[t] = max(h.broken, h.since[t], h.dropped[t])
		least = min(least, floors[t])
	}
	return floors, numbered(least)
}

// lookAtOnce is how many events some looks at: those that come wait for it.
const lookAtOnce = 256

// some returns a few events that follow a number, of all up to another. That is the same one where nothing follows. reaches: none is
// missing between.
func (h *history) some(after uint64, floors map[string]uint64, topics []string) (found []remembered, upTo uint64, reaches bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.reachesLocked(after, floors, topics) {
		return nil, after, false
	}
	first, _ := slices.BinarySearchFunc(h.kept, after+1, func(r remembered, number uint64) int {
		return int(int64(r.number - number))
	})
	upTo = after
	for _, r := range h.kept[first:min(first+lookAtOnce, len(h.kept))] {
		if slices.Contains(topics, r.topic) && r.number > floors[r.topic] {
			found = append(found, r)
		}
		if upTo = r.number; len(found) == takeItems {
			break
		}
	}
	return found, upTo, true
}

// historySource reads the history.
type historySource struct{ *past }

func (s historySource) has(topic string) bool { return !s.isLive(topic) }

func (s historySource) id(at pghub.Position) string { return historyID(s.history.epoch, uint64(at.ID)) }

func (s historySource) read(_ context.Context, after pghub.Position, floors map[string]uint64, topics []string, add func(pghub.Position, item) bool) (all bool, err error) {
	s.history.look(s.gateway.hub.Stats().Reconnects, s.gateway.hub.State() != pghub.StateListening)
	for from := uint64(after.ID); ; {
		found, upTo, reaches := s.history.some(from, floors, topics)
		switch {
		case !reaches:
			return false, &missing{"history", numbered(s.history.last())}
		case upTo == from:
			return true, nil
		}
		for _, r := range found {
			if !add(numbered(r.number), item{kind: kindEvent, topic: r.topic, data: r.data}) {
				return false, nil
			}
		}
		from = upTo
	}
}
