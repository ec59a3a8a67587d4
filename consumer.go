package pghub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Consumer is a handler together with the topics it is subscribed to and the queue of what waits for it. It costs less
// than 1 kB and no goroutine while nothing waits. All methods may be called from anywhere, the handler included.
type Consumer struct {
	handler Handler
	ctx     context.Context // the handler's
	queue   queue

	hub    *Hub
	resync func(context.Context, Gap) error
	codec  Codec
	panics atomic.Uint64
	cancel context.CancelFunc
	done   chan struct{}
	pull   chan struct{} // wakes an iterator; nil for a consumer that workers deliver to

	// Owned by router.mu.
	subs    []*subscription // sorted by topic
	greeted bool            // has been told, or need not be told, that the hub is connected
	closed  bool            // takes no new subscriptions
	staged  []run           // of the burst that is being routed

	retired bool      // has had its last event; owned by hub.mu
	slowAt  time.Time // when its handler was last named as slow; owned by delivery.mu
}

// handlerContext lets Stop and Drain recognise the handler that calls them.
type handlerContext struct {
	context.Context
	c *Consumer
}

type consumerKey struct{}

func (ctx *handlerContext) Value(key any) any {
	if key == (consumerKey{}) {
		return ctx.c
	}
	return ctx.Context.Value(key)
}

// handlerOf is the consumer from within whose handler ctx comes, or nil.
func handlerOf(ctx context.Context) *Consumer {
	c, _ := ctx.Value(consumerKey{}).(*Consumer)
	return c
}

func newConsumer(hub *Hub, handler Handler, cfg ConsumerConfig) *Consumer {
	c := &Consumer{
		hub:     hub,
		handler: handler,
		resync:  cfg.Resync,
		codec:   cfg.Codec,
		queue:   newQueue(cfg.QueueSize, cfg.Overflow),
		done:    make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx, c.cancel = &handlerContext{ctx, c}, cancel
	return c
}

// Subscribe adds topics. It returns once the server has acknowledged LISTEN for all of them: what is committed after
// that reaches the handler, behind a subscribe advisory for each topic. A topic that the consumer has already is fine.
//
// Before Start it records the topics and returns; they are in effect when Start returns. During an outage it waits for
// the reconnection. If ctx ends first, or the server refuses one of the topics (a *[ListenError]), none of the topics
// that this call added remains. Other errors are ErrTopic, ErrClosed and ErrStopped.
//
// See https://www.postgresql.org/docs/current/sql-listen.html.
func (c *Consumer) Subscribe(ctx context.Context, topics ...string) error {
	if err := checkTopics(topics); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pghub: subscribe: %w", err)
	}
	if c.hub.isStopping() {
		return fmt.Errorf("pghub: subscribe: %w", ErrStopped)
	}
	req, err := c.hub.router.subscribe(c, topics)
	if err != nil {
		return fmt.Errorf("pghub: subscribe: %w", err)
	}
	select {
	case <-req.done:
		err = req.err
	case <-ctx.Done():
		err = c.hub.router.giveUp(req, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("pghub: subscribe: %w", err)
	}
	return nil
}

// Unsubscribe removes topics: none of their events that still waits in the queue is delivered afterwards. It returns
// once the server has acknowledged UNLISTEN where this consumer was the last one, or when the connection is gone. If ctx
// ends first the topics are removed all the same. Topics that the consumer does not have are ignored; a consumer that
// is closed has none. The error is that of ctx.
func (c *Consumer) Unsubscribe(ctx context.Context, topics ...string) error {
	req := c.hub.router.unsubscribe(c, topics)
	select {
	case <-req.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pghub: unsubscribe: not acknowledged by the server: %w", ctx.Err())
	}
}

// Drain unsubscribes from all topics, has what is queued delivered, and closes the consumer: the last event is a close
// advisory. It waits until the handler has returned from that or ctx ends, in which case draining goes on; Close then
// cuts it short. Given the context of this consumer's own handler it does not wait. A second call waits too.
func (c *Consumer) Drain(ctx context.Context) error {
	c.hub.router.remove(c)
	c.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)
	if handlerOf(ctx) == c {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pghub: drain: %w", ctx.Err())
	}
}

// Close ends the consumer at once: it is unsubscribed, what is queued is discarded, the handler's context ends, and a
// close advisory is the last event. It waits for nothing, not for the handler either: see Done. It always returns nil;
// a second call does nothing.
func (c *Consumer) Close() error {
	c.hub.router.remove(c)
	c.abort(newAdvisory(Advisory{Action: ActionClose, Final: true}))
	return nil
}

// Done is closed when the handler has returned from its last event. Nothing of the consumer runs after that.
func (c *Consumer) Done() <-chan struct{} { return c.done }

// Topics returns what the consumer is subscribed to, sorted, whether in effect yet or not.
func (c *Consumer) Topics() []string { return c.hub.router.topicsOf(c) }

// Stats returns the consumer's figures.
func (c *Consumer) Stats() ConsumerStats {
	_, delivered, waiting := c.queue.current()
	return ConsumerStats{
		Delivered: delivered,
		Queued:    waiting,
		Dropped:   c.queue.droppedSoFar(),
		Panics:    c.panics.Load(),
	}
}

// seal has final delivered as the last event.
func (c *Consumer) seal(final *Event, discard bool) {
	if c.queue.seal(final, discard) {
		c.hub.delivery.add(c)
	}
}

// abort discards what is queued, ends the handler's context and has final delivered.
func (c *Consumer) abort(final *Event) {
	c.seal(final, true)
	c.cancel()
}

// turn delivers up to turnEvents events. again: more are waiting.
func (c *Consumer) turn() (again bool) {
	for delivered := 0; delivered < turnEvents; {
		hand := c.queue.take()
		if len(hand) == 0 {
			return false
		}
		delivered += len(hand)
		for len(hand) > 0 {
			hand = c.deliver(hand)
		}
	}
	return true
}

// deliver calls the handler with one event after another. left is what remains after an event that made it panic.
func (c *Consumer) deliver(hand run) (left run) {
	var ev *Event
	place := c.queue.delivered.Load()
	returned := false
	defer func() {
		if returned {
			return
		}
		// Without a value the handler has ended its goroutine by runtime.Goexit; delivery starts another one.
		c.panicked("handler", ev, recover())
		c.delivered(ev, place+1)
		left = hand
	}()
	for len(hand) > 0 {
		if c.queue.recall.Load() {
			hand = c.queue.sift(hand)
			continue
		}
		ev, hand = hand[0], hand[1:]
		c.handler(c.ctx, ev)
		c.delivered(ev, place+1)
		place++
	}
	returned = true
	return nil
}

// delivered notes that the handler is done with an event, and does what follows from some advisories.
func (c *Consumer) delivered(ev *Event, place uint64) {
	c.queue.delivered.Store(place)
	if ev.Advisory != nil {
		c.advised(ev.Advisory)
	}
}

func (c *Consumer) advised(a *Advisory) {
	switch {
	case a.Final:
		c.cancel()
		c.hub.retire(c)
		close(c.done)
	case c.resync != nil && (a.Action == ActionReconnect || a.Action == ActionLag):
		c.resyncUntilDone(a.Gap)
	}
}

// resyncUntilDone calls Resync until it succeeds or the consumer is closed.
func (c *Consumer) resyncUntilDone(gap Gap) {
	cfg := &c.hub.cfg
	for failures := 0; c.ctx.Err() == nil; failures++ {
		err := c.tryResync(gap)
		if err == nil {
			return
		}
		c.hub.report.trouble("resync", fmt.Errorf("pghub: resync of a consumer of %q: %w", c.Topics(), err))
		wait := time.NewTimer(backoff(failures, cfg.ReconnectMin, cfg.ReconnectMax))
		select {
		case <-wait.C:
		case <-c.ctx.Done():
			wait.Stop()
		}
	}
}

func (c *Consumer) tryResync(gap Gap) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.panics.Add(1)
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, v, debug.Stack())
		}
	}()
	return c.resync(c.ctx, gap)
}

func (c *Consumer) panicked(what string, ev *Event, value any) {
	c.panics.Add(1)
	if value == nil {
		value = "runtime.Goexit was called"
	}
	c.hub.report.trouble("panic", fmt.Errorf("pghub: %w: %s on an event of topic %q: %v\n%s", ErrPanic, what, ev.Topic, value, debug.Stack()))
}

// backoff is the wait before the attempt after so many failures: random, so that many hubs do not come back in step.
func backoff(failures int, lowest, highest time.Duration) time.Duration {
	ceiling := highest
	if lowest < highest>>failures {
		ceiling = lowest << failures
	}
	return rand.N(ceiling)
}

// findLocked returns the place of a topic in c.subs, and the subscription if it is there.
func (c *Consumer) findLocked(topic string) (int, *subscription) {
	i, found := slices.BinarySearchFunc(c.subs, topic, func(s *subscription, topic string) int {
		return strings.Compare(s.ch.name, topic)
	})
	if !found {
		return i, nil
	}
	return i, c.subs[i]
}

// insertLocked adds subscriptions to topics that c.subs does not have.
func (c *Consumer) insertLocked(added []*subscription) {
	switch len(added) {
	case 0:
	case 1: // sorting costs more
		i, _ := c.findLocked(added[0].ch.name)
		c.subs = slices.Insert(c.subs, i, added[0])
	default:
		c.subs = append(c.subs, added...)
		slices.SortFunc(c.subs, func(a, b *subscription) int { return strings.Compare(a.ch.name, b.ch.name) })
	}
}

// deleteLocked takes subscriptions that have ended out of c.subs.
func (c *Consumer) deleteLocked(ended []*subscription) {
	if len(ended) == 1 {
		if i, sub := c.findLocked(ended[0].ch.name); sub == ended[0] {
			c.subs = slices.Delete(c.subs, i, i+1)
		}
		return
	}
	c.subs = slices.DeleteFunc(c.subs, func(sub *subscription) bool { return sub.ended })
}
