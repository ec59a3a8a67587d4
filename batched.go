package pghub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// BatchHandler is called with what waits for a consumer, in order: at least one event. A supervisory event comes in a call of
// its own. In all else it is a [Handler]: one call at a time, with events that are shared. The slice is the handler's to keep.
type BatchHandler func(ctx context.Context, events []*Event)

// BatchConfig makes a consumer that takes several events at once; nil means its zero value.
type BatchConfig struct {
	// ConsumerConfig is that of the consumer. QueueSize bounds what waits, as ever, so it should be well above Max.
	ConsumerConfig

	// Max is how many events the handler gets in one call. 0: 256.
	Max int

	// Delay is how long an event may wait for others to come, while fewer than Max do. It waits in the queue. A supervisory
	// event, and the end of the consumer or of the hub, end the delay. 0: the handler gets at once what is there; then a batch
	// is what came while the handler was busy with the one before.
	Delay time.Duration

	// Latest hands over, of the events with the same topic and the same key, only the latest, in its place: ten thousand
	// changes of one row that wait are one. Max then counts what is handed over. The others are counted as delivered. Set it
	// where an event says only that something has changed, and not where each one counts.
	Latest bool
}

const defaultBatch = 256

// BatchConsumer makes a consumer whose handler gets all that waits at once, up to a number: for work that is cheaper for many
// than for one, such as a query for the rows with these keys. The configuration may be nil. In all else it is [Hub.Consumer].
//
// A batch ends before a supervisory event, and around an announced gap, so that Resync is called between the events before a gap and those behind it. All
// but the last of a batch count as delivered, in Stats, when the handler gets them. If the handler panics the batch is over.
func (h *Hub) BatchConsumer(ctx context.Context, handler BatchHandler, cfg *BatchConfig) (*Consumer, error) {
	if handler == nil {
		return nil, errors.New("pghub: consumer: the handler is nil")
	}
	if cfg == nil {
		cfg = &BatchConfig{}
	}
	if cfg.Max < 0 || cfg.Delay < 0 {
		return nil, fmt.Errorf("pghub: BatchConfig.Max %d and Delay %v must not be negative", cfg.Max, cfg.Delay)
	}
	b := batching{handler: handler, most: orDefault(cfg.Max, defaultBatch), latest: cfg.Latest}
	var held *linger
	if cfg.Delay > 0 {
		held = &linger{delay: cfg.Delay, enough: b.most}
	}
	return h.consumer(ctx, b.handle, &cfg.ConsumerConfig, nil, held)
}

// batching makes batches of what a consumer's queue holds.
type batching struct {
	handler BatchHandler
	most    int
	latest  bool
}

// handle is the consumer's Handler: it takes out what may go with the first event.
func (b *batching) handle(ctx context.Context, first *Event) {
	events := []*Event{first}
	if first.Advisory == nil && !first.gap { // behind a gap Resync is called first
		if q := &ConsumerFrom(ctx).queue; b.latest {
			events = b.takeLatest(q, first)
		} else {
			events = b.take(q, first)
		}
	}
	if first.Advisory == nil {
		ConsumerFrom(ctx).count().batches.Add(1)
	}
	b.handler(ctx, events)
}

func (b *batching) take(q *queue, first *Event) []*Event {
	events := []*Event{first}
	for len(events) < b.most {
		ev := q.more()
		if ev == nil {
			break
		}
		events = append(events, ev)
	}
	return events
}

// takeLatest looks at no more than what waits when it begins: else it might never end.
func (b *batching) takeLatest(q *queue, first *Event) []*Event {
	var (
		events = []*Event{first}
		name   = appendIdentity(nil, first)
		places = map[string]int{string(name): 0}
	)
	_, _, _, waiting := q.current()
	for ; waiting > 0 && len(places) < b.most; waiting-- {
		ev := q.more()
		if ev == nil {
			break
		}
		name = appendIdentity(name[:0], ev)
		if place, known := places[string(name)]; known {
			events[place] = nil
		}
		places[string(name)] = len(events)
		if events = append(events, ev); len(events) > 2*len(places)+defaultBatch {
			events = compact(events, places)
		}
	}
	return compact(events, nil)
}

// more takes the next event if it may be handled together with the one that next or more gave last: if it is there already,
// and no supervisory event lies between. The one before counts as delivered then. nil: it may not. The turn goes on.
func (q *queue) more() *Event {
	if q.recall.Load() {
		return nil
	}
	if q.at == len(q.hand) {
		return q.fetchMore()
	}
	if q.hand[q.at].gap {
		return nil
	}
	q.done()
	q.at++
	return q.hand[q.at-1]
}

// fetchMore fills the hand with events that go with what was in it last, and takes the first.
func (q *queue) fetchMore() *Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lead) > 0 || q.ring.n == 0 || q.ring.at(0).isAdvisory() || q.ring.at(0).run[0].gap {
		return nil
	}
	q.done()
	q.fetchLocked()
	q.at++
	return q.hand[0]
}

// compact leaves out the events that newer ones have replaced, and corrects the places of the others.
func compact(events []*Event, places map[string]int) []*Event {
	moved, kept := make([]int, len(events)), events[:0]
	for i, ev := range events {
		if moved[i] = len(kept); ev != nil {
			kept = append(kept, ev)
		}
	}
	for name, place := range places {
		places[name] = moved[place]
	}
	clear(events[len(kept):])
	return kept
}

// appendIdentity is what makes two events be about the same: topic and key.
func appendIdentity(b []byte, ev *Event) []byte {
	for _, k := range ev.Key {
		b = append(strconv.AppendInt(b, k, 36), ',')
	}
	return append(append(b, ' '), ev.Topic...)
}
