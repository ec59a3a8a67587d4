package reliability

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
)

// soakConsumer writes down what a consumer lives through.
type soakConsumer struct {
	soak       *soak
	name       string
	before     bool // made before Start
	steady     bool // has all topics from then on
	resyncs    bool
	drained    time.Duration                              // when Drain was called, of a visitor
	misbehave  func(ctx context.Context, ev *pghub.Event) // after an event has been written down; may be nil
	consumer   *pghub.Consumer
	running    atomic.Int32
	overlapped atomic.Bool

	stream     []lived      // written by the handler alone
	subscribed []subscribed // of a consumer that is not steady; written by whoever subscribes it, one at a time

	mu      sync.Mutex
	goal    int           // number of an event of source 0
	last    int           // that has come
	reached chan struct{} // closed when goal has been passed
}

func (c *soakConsumer) handle(ctx context.Context, ev *pghub.Event) {
	if c.running.Add(1) != 1 {
		c.overlapped.Store(true)
	}
	defer c.running.Add(-1)
	c.note(ev)
	if c.misbehave != nil {
		c.misbehave(ctx, ev)
	}
}

func (c *soakConsumer) note(ev *pghub.Event) {
	l := lived{what: wasEvent, at: c.soak.now()}
	if a := ev.Advisory; a != nil {
		l.what, l.topic, l.dropped = a.Action, a.Topic, a.Dropped
		if a.Action == pghub.ActionDisconnect || a.Action == pghub.ActionReconnect {
			l.since = c.soak.sinceEpoch(a.Gap.Since)
		}
		if a.Action == pghub.ActionReconnect {
			l.until = c.soak.sinceEpoch(a.Gap.Until)
		} else {
			l.until = l.since
		}
		c.stream = append(c.stream, l)
		return
	}
	l.topic = ev.Topic
	if len(ev.Key) == 2 {
		l.id = eventID{int(ev.Key[0]), int(ev.Key[1])}
	}
	c.stream = append(c.stream, l)
	if l.id.source == 0 {
		c.passed(l.id.number)
	}
}

// beyond sets a goal: reached will be closed when an event of source 0 beyond number has come.
func (c *soakConsumer) beyond(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goal, c.reached = number, make(chan struct{})
}

func (c *soakConsumer) passed(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reached != nil && number > c.goal && c.last <= c.goal {
		close(c.reached)
	}
	c.last = number
}

// witness returns the life of the consumer. It has ended.
func (c *soakConsumer) witness() *witness {
	return &witness{name: c.name, stream: c.stream, subscribed: c.subscribed, beforehand: c.before, resyncs: c.resyncs}
}

// resync fails now and then, and is done only when it does not.
func (c *soakConsumer) resync(rng *rand.Rand) func(context.Context, pghub.Gap) error {
	return func(context.Context, pghub.Gap) error {
		switch rng.IntN(6) {
		case 0:
			return errors.New("the soak's Resync fails")
		case 1:
			panic("the soak's Resync panics")
		}
		c.stream = append(c.stream, lived{what: wasResync, at: c.soak.now()})
		return nil
	}
}

// stalls blocks the handler now and then, long enough for a short queue to overflow.
func stalls(rng *rand.Rand) func(context.Context, *pghub.Event) {
	return func(ctx context.Context, _ *pghub.Event) {
		if rng.IntN(700) == 0 {
			pause(ctx, time.Duration(rng.IntN(300))*time.Millisecond)
		}
	}
}

// panics panics now and then, or ends the goroutine.
func panics(rng *rand.Rand) func(context.Context, *pghub.Event) {
	return func(context.Context, *pghub.Event) {
		switch rng.IntN(1000) {
		case 0:
			panic("the soak's handler panics")
		case 1:
			runtime.Goexit()
		}
	}
}

// pause lets d pass, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// subscribes a topic and writes down since when. It reports whether that succeeded.
func (c *soakConsumer) subscribe(ctx context.Context, topic string) bool {
	if err := c.consumer.Subscribe(ctx, topic); err != nil {
		return false
	}
	c.subscribed = append(c.subscribed, subscribed{topic: topic, from: c.soak.now(), to: never})
	return true
}

// unsubscribing writes down that a topic is about to be unsubscribed from.
func (c *soakConsumer) unsubscribing(topic string) {
	for i := range c.subscribed {
		if s := &c.subscribed[i]; s.topic == topic && s.to == never {
			s.to, s.left = c.soak.now(), true
		}
	}
}

// end closes what is still open, when Stop is called.
func (c *soakConsumer) end(at time.Duration) {
	for i := range c.subscribed {
		c.subscribed[i].to = min(c.subscribed[i].to, at)
	}
}

// wander subscribes and unsubscribes at random, from outside the handler, until ctx ends. Some calls are given too little
// time to succeed.
func (c *soakConsumer) wander(ctx context.Context, rng *rand.Rand) {
	has, all := map[string]bool{}, c.soak.all()
	for ctx.Err() == nil {
		topic := all[rng.IntN(len(all))]
		limit, cancel := context.WithTimeout(ctx, time.Duration(1+rng.IntN(500))*time.Millisecond)
		if has[topic] {
			c.unsubscribing(topic)
			_ = c.consumer.Unsubscribe(limit, topic) // what it says of the server's answer does not matter here
			has[topic] = false
		} else {
			has[topic] = c.subscribe(limit, topic)
		}
		cancel()
		pause(ctx, time.Duration(rng.IntN(40))*time.Millisecond)
	}
}

// wanders does the same from inside the handler. One topic stays, so that the handler is called again.
func (c *soakConsumer) wanders(rng *rand.Rand) func(context.Context, *pghub.Event) {
	lost := map[string]bool{}
	for _, topic := range c.soak.rare {
		lost[topic] = true
	}
	return func(ctx context.Context, ev *pghub.Event) {
		if ev.Advisory != nil || rng.IntN(200) != 0 {
			return
		}
		limit, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if ev.Topic != c.soak.topics[0] {
			c.unsubscribing(ev.Topic)
			_ = c.consumer.Unsubscribe(limit, ev.Topic)
			c.stream = append(c.stream, lived{what: wasUnsubscribed, at: c.soak.now(), topic: ev.Topic})
			lost[ev.Topic] = true
		}
		for topic := range lost {
			if rng.IntN(2) == 0 && c.subscribe(limit, topic) {
				delete(lost, topic)
			}
		}
	}
}
