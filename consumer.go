package pghub

import (
	"context"
	"fmt"
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
	name   string
	codec  Codec
	cancel context.CancelFunc
	done   chan struct{}
	loop   *loop                 // over Events; nil for a consumer that workers deliver to
	linger *linger               // for a consumer of batches with a delay, else nil
	counts atomic.Pointer[tally] // nil: nothing yet; see count

	// resync is what brings the consumer's state up to date. owed says that it has to succeed before the next event. Both
	// are owned by whoever has the consumer's turn.
	resync func(context.Context, Gap) error
	owed   *owedResync

	resyncing *resyncing // nil without a Resync

	// Owned by router.mu.
	subs      []*subscription // sorted by topic
	unsettled int             // of these, not in effect yet
	loadFirst bool            // Resync is to be called when none of them is unsettled: ResyncFirst
	greeted   bool            // has been told, or need not be told, that the hub is connected
	closed    bool            // takes no new subscriptions
	staged    []run           // of the burst that is being routed

	attendance // see roster.go

	slowAt time.Time // when its handler was last named as slow; owned by the lookout
}

// handlerContext lets Stop, Drain and ConsumerFrom recognise the handler that calls them.
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

// ConsumerFrom returns the consumer whose handler, or Resync, got ctx or an ancestor of it; nil if there is none. A handler
// that wants to subscribe, or to close its own consumer, finds it so: the variable that [Hub.Consumer] returns into may not
// be set yet when the first event comes.
func ConsumerFrom(ctx context.Context) *Consumer {
	c, _ := ctx.Value(consumerKey{}).(*Consumer)
	return c
}

func newConsumer(hub *Hub, handler Handler, cfg ConsumerConfig) *Consumer {
	c := &Consumer{
		hub:       hub,
		handler:   wrap(handler, cfg.Middleware),
		name:      cfg.Name,
		resync:    cfg.Resync,
		loadFirst: cfg.ResyncFirst,
		codec:     cfg.Codec,
		queue:     newQueue(cfg.QueueSize, cfg.Overflow, &hub.brake),
		done:      make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(hub.cfg.BaseContext)
	c.ctx, c.cancel = &handlerContext{ctx, c}, cancel
	if cfg.Resync != nil {
		c.resyncing = &resyncing{every: cfg.ResyncEvery, jitter: cfg.ResyncJitter}
	}
	return c
}

// Subscribe adds topics. It returns once the server has acknowledged LISTEN for all of them: what is committed after
// that reaches the handler, behind a subscribe advisory for each topic. A topic that the consumer has already is fine.
//
// Before Start it records the topics and returns; they are in effect when Start returns. During an outage it waits for
// the reconnection. If ctx ends first, or the server refuses one of the topics (a *[ListenError]), none of the topics
// that this call added remains. So it is, with an error that says so, if Unsubscribe is called for one of them meanwhile.
// Other errors are ErrTopic, ErrClosed and ErrStopped.
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

// Unsubscribe removes topics, together with their events that wait in the queue. A call of the handler that is
// already on its way goes on: it may still be under way when Unsubscribe has returned. No other follows.
//
// It returns once the server has acknowledged UNLISTEN where this consumer was the last one, or at once if the topic was not
// in effect or the connection is gone. If ctx ends first the topics are removed all the same. Topics that the consumer does not have are ignored; a
// consumer that is closed has none. The error is that of ctx.
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
// cuts it short. A second call waits too.
//
// Given the context of this consumer's own handler it does not wait. Given that of another handler, it does not wait for a
// handler that is itself waiting in Stop or Drain: the two would wait for each other.
func (c *Consumer) Drain(ctx context.Context) error {
	c.hub.router.remove(c)
	c.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)
	callers := c.hub.calling(ctx)
	if slices.Contains(callers, c) {
		return nil
	}
	var waiting <-chan struct{} // never, unless a handler, or a loop's body, asks
	for _, caller := range callers {
		var leave func()
		waiting, leave = c.hub.roster.waitFor(caller, c)
		defer leave()
	}
	select {
	case <-c.done:
		return nil
	case <-waiting:
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

// Name returns ConsumerConfig.Name.
func (c *Consumer) Name() string { return c.name }

// seal has final delivered as the last event.
func (c *Consumer) seal(final *Event, discard bool) {
	if c.queue.seal(final, discard) || c.linger.hurries(c) {
		c.hub.delivery.add(c)
	}
}

// abort discards what is queued, ends the handler's context and has final delivered.
func (c *Consumer) abort(final *Event) {
	c.seal(final, true)
	c.cancel()
}

func (c *Consumer) topicsLocked() []string {
	topics := make([]string, len(c.subs))
	for i, sub := range c.subs {
		topics[i] = sub.ch.name
	}
	return topics
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
