package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pghub/pghub"
)

// transport is how a client is connected.
type transport byte

const (
	viaWebSocket transport = iota
	viaStream              // Server-Sent Events
)

// client is one connection: a consumer of the hub at one end, a socket at the other, and an outbox between them, so that
// neither the hub nor any other client ever waits for this one.
type client struct {
	gateway   *Gateway
	transport transport
	raw       bool // gets payloads alone, else events and advisories
	address   string
	consumer  *pghub.Consumer // set by admission.begin
	out       outbox
	ctx       context.Context // ends when the client leaves, and ends its connection
	cancel    context.CancelCauseFunc
	counted   atomic.Bool // why it is closed

	topics []string // owned by admission.mu

	mu      sync.Mutex
	kept    []string           // of the past
	filters map[string]*filter // by topic; nil: none
	tracks  []*track
}

// newClient admits a client, who holds topics but is not subscribed to them: see listen. Its outbox has no writer yet.
// Whoever gets it calls leave. What refuses it refuses it before it has a consumer: that would outlive it by a moment.
func (g *Gateway) newClient(r *http.Request, via transport, raw bool, topics ...string) (*client, error) {
	if err := g.hasRoom(r); err != nil {
		return nil, err
	}
	c := &client{
		gateway:   g,
		transport: via,
		raw:       raw,
		address:   g.addressOf(r),
		out:       outbox{limit: g.cfg.MaxPending, patience: g.cfg.SlowTimeout, gapless: raw, common: g.ledger},
	}
	var codec pghub.Codec = g.encoder
	if raw {
		codec = pghub.RawCodec{}
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := g.admission.enter(c); err != nil {
		c.cancel(nil)
		return nil, err
	}
	if _, err := g.admission.hold(c, topics); err != nil {
		c.leave()
		return nil, err
	}
	consumer, err := g.hub.Consumer(r.Context(), c.handle, &pghub.ConsumerConfig{Codec: codec})
	if err != nil {
		c.leave()
		return nil, err
	}
	if err := g.admission.begin(c, consumer); err != nil {
		_ = consumer.Close() // never fails
		c.leave()
		return nil, err
	}
	if err := c.watchExpiry(r); err != nil {
		c.leave()
		return nil, err
	}
	g.counters.accepted.Add(1)
	return c, nil
}

// hasRoom says why a client of this request would be refused now; nil: it would not.
func (g *Gateway) hasRoom(r *http.Request) error {
	if g.hub.State() == pghub.StateIdle {
		return &notListening // a hub that is not started takes subscriptions that are not in effect
	}
	return g.admission.hasRoom(g.addressOf(r))
}

// handle is the consumer's handler: it moves an event into the outbox, and never waits.
func (c *client) handle(_ context.Context, ev *pghub.Event) {
	switch a := ev.Advisory; {
	case a == nil && c.raw:
		c.put(item{kind: kindEvent, topic: ev.Topic, data: ev.Payload})
	case a == nil:
		c.take(item{kind: kindEvent, topic: ev.Topic, data: ev.Value})
	case c.raw && a.Action == pghub.ActionLag:
		c.closedFor(&c.gateway.counters.slow)
		c.out.finish(endSlow) // events are missing, and payloads alone cannot say so
	case a.Action == pghub.ActionLag && c.resume(""): // what was dropped on its way here is read
	case a.Action == pghub.ActionSubscribe && a.Gap.Err != nil && c.resume(a.Topic):
	case !c.raw:
		c.put(item{kind: kindAdvisory, data: advisoryMessage(ev)})
	}
	if ev.Advisory != nil && ev.Advisory.Final {
		c.out.finish(endStop)
	}
}

// closedFor counts why the client is closed, once: what follows from that is no reason.
func (c *client) closedFor(reason *atomic.Uint64) {
	if c.counted.CompareAndSwap(false, true) {
		reason.Add(1)
	}
}

// reply sends what is not an event.
func (c *client) reply(data []byte) { c.put(item{kind: kindReply, data: data}) }

func (c *client) put(it item) {
	if c.out.put(it) {
		c.closedFor(&c.gateway.counters.slow) // the outbox takes no more; the writer ends the connection
	}
}

// subscribe adds topics, all or none, and returns when they are in effect.
func (c *client) subscribe(ctx context.Context, topics []string, since *cursor, f *filter) (now cursor, err error) {
	added, err := c.gateway.admission.hold(c, topics)
	if err != nil {
		return now, err
	}
	c.filterTopics(topics, f)
	return c.listen(ctx, added, since, func(cursor) {})
}

// listen subscribes to topics that the client holds, and holds none of them if that fails. since: what followed it is sent too,
// where it can be had. located is called before the first event can come, with the place from where on the client gets all.
func (c *client) listen(ctx context.Context, topics []string, since *cursor, located func(cursor)) (now cursor, err error) {
	defer func() {
		if err != nil {
			c.forget(topics)
		}
	}()
	begin := func() {}
	if p := c.gateway.past; p != nil && !c.raw {
		if err := p.keep(ctx, topics); err != nil {
			return now, err
		}
		c.mu.Lock()
		c.kept = append(c.kept, topics...)
		c.mu.Unlock()
		var from cursor
		if now, from, begin, err = c.follow(ctx, topics, since); err != nil {
			return now, err
		}
		located(from)
	}
	c.out.admit(topics)
	if err := c.consumer.Subscribe(ctx, topics...); err != nil {
		return now, err
	}
	begin()
	if since != nil {
		c.tellGone(topics)
	}
	return now, nil
}

// tellGone tells a client that has come back of topics whose events cannot be had again.
func (c *client) tellGone(topics []string) {
	if p := c.gateway.past; p != nil {
		if gone := slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return !p.isGone(t) }); len(gone) > 0 {
			c.put(item{kind: kindAdvisory, data: missingMessage(gone, "unknown")})
		}
	}
}

// unsubscribe removes topics. Nothing of theirs is sent afterwards.
func (c *client) unsubscribe(ctx context.Context, topics []string) error {
	err := c.consumer.Unsubscribe(ctx, topics...)
	c.forget(topics)
	return err
}

// forget drops what there is of topics.
func (c *client) forget(topics []string) {
	c.unfollow(topics)
	c.filterTopics(topics, nil)
	c.out.revoke(topics)
	c.gateway.admission.release(c, topics)
}

// drain has the client get what is queued for it, and then end.
func (c *client) drain() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.consumer.Drain(ended) // begins it; the outbox follows with the close advisory
}

// errCut is why a client's context ends whose connection takes nothing.
var errCut = errors.New("cut off")

// cut ends the client's connection, with what it has not got.
func (c *client) cut() { c.cancel(errCut) }

// leave ends all of the client. Further calls do nothing.
func (c *client) leave() {
	c.cancel(nil)
	if c.consumer != nil {
		_ = c.consumer.Close() // never fails
	}
	if c.gateway.admission.leave(c) {
		c.unfollow(c.keptTopics())
	}
}
