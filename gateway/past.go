package gateway

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// past is what the gateway knows of events that were before: how far the stream has been brought to the hub, and the history in
// memory. A consumer of its own keeps topics listened to, so that they are followed while no client is there.
//
// It learns of events in encoder.Decode, which the hub calls once for each event, in their order, before anybody gets it. So what is
// noted here before a subscription is in effect has been, and what is not will come.
type past struct {
	gateway  *Gateway
	stream   *stream.Stream // nil: none
	live     []string       // topics of the stream
	history  *history       // nil: none
	consumer *pghub.Consumer
	linger   time.Duration
	most     int           // how many topics are kept, but for those that clients have
	reading  chan struct{} // has room for as many replays as may read at once
	keeping  chan struct{} // held while topics are added or removed

	mu      sync.Mutex
	newest  pghub.Position // that the stream has been brought to
	noted   time.Time      // when that was; zero: it is not known
	kept    map[string]*keptTopic
	timer   *time.Timer
	hurried bool // it was set to now
	closed  bool
}

// keptTopic is a topic that the consumer listens to.
type keptTopic struct {
	clients int
	idle    time.Time // since when there is none
	active  bool      // it is in effect
}

// readsAtOnce is how many replays read the database at the same time: a page may be 8 MB, and one more is read ahead.
const readsAtOnce = 3

// newPast returns nil where the Config keeps nothing.
func newPast(g *Gateway) *past {
	cfg := &g.cfg
	if cfg.Stream == nil && cfg.HistoryEvents == 0 {
		return nil
	}
	p := &past{
		gateway: g, stream: cfg.Stream, linger: cfg.HistoryLinger, most: cfg.MaxTopicsTotal, kept: make(map[string]*keptTopic),
		reading: make(chan struct{}, readsAtOnce), keeping: make(chan struct{}, 1),
	}
	if cfg.Stream != nil {
		p.live = cfg.Stream.LiveTopics()
	}
	if cfg.HistoryEvents > 0 {
		p.history = newHistory(strings.ToLower(rand.Text()[:10]), cfg.HistoryEvents, cfg.HistoryBytes)
	}
	return p
}

// isLive says whether events of a topic come from the stream.
func (p *past) isLive(topic string) bool { return p.stream != nil && slices.Contains(p.live, topic) }

// note takes down an event that is about to go to clients, and gives its message an id.
func (p *past) note(ev *pghub.Event, message []byte) []byte {
	switch live := p.isLive(ev.Topic); {
	case live && ev.Record != nil:
		p.mu.Lock()
		p.newest, p.noted = ev.Record.Position, time.Now()
		p.mu.Unlock()
		return withID(message, ev.Record.Position.String())
	case !live && p.history != nil:
		return p.history.add(ev.Topic, message)
	}
	return message
}

// keep has topics listened to until release, and some time longer, if their events can be had again. It returns when that is in effect.
func (p *past) keep(ctx context.Context, topics []string) (err error) {
	topics = slices.DeleteFunc(slices.Clone(topics), p.isGone)
	p.mu.Lock()
	for _, t := range topics {
		if p.kept[t] == nil {
			p.kept[t] = &keptTopic{}
		}
		p.kept[t].clients++
	}
	missing := p.missingLocked(topics)
	p.mu.Unlock()
	defer func() {
		if err != nil {
			p.release(topics)
		}
	}()
	if len(missing) == 0 {
		return nil
	}
	select {
	case p.keeping <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.keeping }()
	if err := p.begin(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	missing = p.missingLocked(topics)
	p.mu.Unlock()
	if err := p.consumer.Subscribe(ctx, missing...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range missing {
		p.kept[t].active = true
		if p.isLive(t) {
			p.noted = time.Time{} // where its events have come to nobody has noted
		}
		if p.history != nil && !p.isLive(t) {
			p.history.begin(t)
		}
	}
	return nil
}

// missingLocked are those of topics that are not listened to yet.
func (p *past) missingLocked(topics []string) (missing []string) {
	for _, t := range topics {
		if !p.kept[t].active {
			missing = append(missing, t)
		}
	}
	return missing
}

// begin makes the consumer. Whoever calls it holds keeping.
func (p *past) begin(ctx context.Context) error {
	if p.consumer != nil {
		return nil
	}
	consumer, err := p.gateway.hub.Consumer(ctx, p.handle, &pghub.ConsumerConfig{
		Name: "gateway's past", Codec: p.gateway.encoder, QueueSize: 64, // it has nothing to do
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.consumer = consumer
	closed := p.closed
	p.mu.Unlock()
	if closed {
		_ = consumer.Close() // never fails
		return &shuttingDown
	}
	return nil
}

// handle gets events that have been noted, and hears of a lost connection.
func (p *past) handle(_ context.Context, ev *pghub.Event) {
	switch a := ev.Advisory; {
	case a == nil || p.history == nil:
	case a.Action == pghub.ActionSubscribe && a.Gap.Err != nil:
		p.history.interrupt(a.Topic)
	default:
		p.history.look(p.gateway.hub.Stats().Reconnects, a.Action == pghub.ActionDisconnect)
	}
}

// release says that a client does not have topics any more.
func (p *past) release(topics []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range topics {
		if p.isGone(t) {
			continue
		}
		k := p.kept[t]
		if k.clients--; k.clients > 0 {
			continue
		}
		if !k.active {
			delete(p.kept, t)
			continue
		}
		if k.idle = time.Now(); p.timer == nil && !p.closed {
			p.timer = time.AfterFunc(p.linger, p.sweep)
		}
	}
	if len(p.kept) > p.most && p.timer != nil && !p.hurried {
		p.hurried = true
		p.timer.Reset(0)
	}
}

// sweep stops to listen to topics that nobody has come back for, and to those that have been left longest where there are too many.
func (p *past) sweep() {
	select {
	case p.keeping <- struct{}{}:
	case <-p.consumer.Done():
		return
	}
	defer func() { <-p.keeping }()
	p.mu.Lock()
	var idle []string
	for t, k := range p.kept {
		if k.clients == 0 {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b string) int { return p.kept[a].idle.Compare(p.kept[b].idle) })
	gone := 0
	for gone < len(idle) && (len(p.kept) > p.most || time.Since(p.kept[idle[gone]].idle) >= p.linger) {
		delete(p.kept, idle[gone])
		if p.history != nil {
			p.history.forget(idle[gone])
		}
		gone++
	}
	p.timer, p.hurried = nil, false
	if gone < len(idle) && !p.closed {
		p.timer = time.AfterFunc(p.linger-time.Since(p.kept[idle[gone]].idle), p.sweep)
	}
	p.mu.Unlock()
	if gone > 0 {
		_ = p.consumer.Unsubscribe(context.Background(), idle[:gone]...) // waits while the database is away; fails if there is no hub any more
	}
}

// close ends it. Nobody keeps anything any more.
func (p *past) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	consumer := p.consumer
	p.mu.Unlock()
	if consumer != nil {
		_ = consumer.Close() // never fails
	}
}

// now is a cursor of a client that begins. What follows it is what comes after a subscription that is asked for now, and perhaps
// some of what came before.
func (p *past) now(ctx context.Context) (c cursor, err error) {
	if p.history != nil {
		c.epoch, c.number = p.history.epoch, p.history.last()
	}
	if p.stream != nil {
		c.at, err = p.streamNow(ctx)
	}
	return c, err
}

// isGone says whether events of a topic cannot be had again.
func (p *past) isGone(topic string) bool { return p.history == nil && !p.isLive(topic) }

// ofStream are those of topics whose events come from the stream.
func (p *past) ofStream(topics []string) (live []string) {
	for _, t := range topics {
		if p != nil && p.isLive(t) {
			live = append(live, t)
		}
	}
	return live
}

// freshFor is how long an event says where the stream is. A stream may keep nothing that is older than an hour.
const freshFor = 10 * time.Second

// streamNow is where the stream is, or was a moment ago. Where no event has told of late the database is asked.
func (p *past) streamNow(ctx context.Context) (pghub.Position, error) {
	p.mu.Lock()
	at, noted := p.newest, p.noted
	p.mu.Unlock()
	if time.Since(noted) < freshFor {
		return at, nil
	}
	located, err := p.locate(ctx, stream.Latest)
	if err != nil {
		return located, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noted.Equal(noted) { // else events have told meanwhile
		p.newest, p.noted = located, time.Now()
	}
	return located, nil
}

// beginning is a cursor of a client that begins in the past.
func (p *past) beginning(ctx context.Context, start stream.Start) (c *cursor, err error) {
	c = &cursor{start: start, hasStart: true}
	if p.stream != nil {
		c.at, err = p.locate(ctx, start)
	}
	return c, err
}

// locate asks the database where a place of the stream is, until it is there.
func (p *past) locate(ctx context.Context, start stream.Start) (at pghub.Position, err error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		if at, err = p.stream.Locate(ctx, start); err == nil || ctx.Err() != nil {
			return at, err
		}
		p.gateway.cfg.Logger.Warn("gateway: the stream's position was not found", "error", err)
		if err := pausing(ctx, pause); err != nil {
			return at, err
		}
		select {
		case <-p.gateway.hub.Done():
			return at, pghub.ErrStopped
		default:
		}
	}
}

func pausing(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
