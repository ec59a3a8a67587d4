package reliability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
)

// soakHub is a hub behind a proxy of its own, with consumers of every temper. The first one is the reference of the
// others: it is quick, has all topics all the time, and its queue has no bound.
type soakHub struct {
	soak      *soak
	name      string
	hub       *pghub.Hub
	proxy     *faultproxy.Proxy
	consumers []*soakConsumer
	visitors  []*soakConsumer
	watched   *soakConsumer // the first one
	wandering func()        // stops what subscribes from outside, and the iterator, and waits for them
	begin     func()        // starts them
}

func (s *soak) newHub(t *testing.T, number int, rng *rand.Rand) *soakHub {
	h := &soakHub{soak: s, name: fmt.Sprintf("hub %d", number)}
	dsn := s.dsn("disable")
	if number%3 == 1 {
		dsn = s.dsn("require")
	}
	var through string
	h.proxy, through = faultProxy(t, dsn)
	var err error
	h.hub, err = pghub.New(pghub.Config{
		Pool:          soakPool(t, through),
		Name:          h.name,
		ReconnectMin:  5 * time.Millisecond,
		ReconnectMax:  100 * time.Millisecond,
		ProbeInterval: 200 * time.Millisecond,
		ProbeTimeout:  400 * time.Millisecond,
		QueueSize:     -1,
	})
	require.NoError(t, err)

	seeded := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), 1)) }
	h.watched = h.add(t, "quick", nil, nil)
	h.add(t, "stalls, drops the oldest", &pghub.ConsumerConfig{QueueSize: 100}, stalls(seeded()))
	h.add(t, "stalls, drops the newest", &pghub.ConsumerConfig{QueueSize: 70, Overflow: pghub.DropNewest}, stalls(seeded()))
	h.add(t, "panics", nil, panics(seeded()))
	h.addResync(t, seeded())
	inside := h.addLoose(t, "wanders inside", nil)
	inside.misbehave = inside.wanders(seeded())
	outside, outsideRng, visitRng := h.addLoose(t, "wanders outside", nil), seeded(), seeded()
	iterator := &soakConsumer{soak: s, name: h.name + ", iterator"}
	h.consumers = append(h.consumers, iterator)

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	h.begin = func() {
		for _, topic := range s.topics {
			require.True(t, inside.subscribe(t.Context(), topic))
		}
		running.Go(func() { outside.wander(ctx, outsideRng) })
		running.Go(func() { h.visit(ctx, visitRng) })
		running.Go(func() { iterator.iterate(h.hub, s.topics) })
	}
	h.wandering = func() {
		stop()
		running.Wait()
	}
	return h
}

// soakPool returns a small pool that does not try long to connect.
func soakPool(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.ConnConfig.ConnectTimeout = 2 * time.Second
	cfg.MaxConns = 3
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// add makes a consumer that has all topics from before Start on.
func (h *soakHub) add(t *testing.T, name string, cfg *pghub.ConsumerConfig, misbehave func(context.Context, *pghub.Event)) *soakConsumer {
	if cfg == nil {
		cfg = &pghub.ConsumerConfig{}
	}
	cfg.Topics = h.soak.topics
	c := h.addLoose(t, name, cfg)
	c.steady, c.misbehave = true, misbehave
	return c
}

func (h *soakHub) addResync(t *testing.T, rng *rand.Rand) {
	c := &soakConsumer{soak: h.soak, name: h.name + ", resyncs", resyncs: true, steady: true, misbehave: stalls(rng)}
	h.enlist(t, c, &pghub.ConsumerConfig{QueueSize: 120, Topics: h.soak.topics, Resync: c.resync(rng)})
}

// addLoose makes a consumer that is subscribed to nothing yet.
func (h *soakHub) addLoose(t *testing.T, name string, cfg *pghub.ConsumerConfig) *soakConsumer {
	c := &soakConsumer{soak: h.soak, name: h.name + ", " + name}
	h.enlist(t, c, cfg)
	return c
}

func (h *soakHub) enlist(t *testing.T, c *soakConsumer, cfg *pghub.ConsumerConfig) {
	consumer, err := h.hub.Consumer(context.Background(), c.handle, cfg)
	require.NoError(t, err)
	c.consumer, c.before = consumer, true
	h.consumers = append(h.consumers, c)
}

// iterate is the life of a consumer that is a loop.
func (c *soakConsumer) iterate(hub *pghub.Hub, topics []string) {
	for ev := range hub.Events(context.Background(), topics...) {
		c.note(ev)
	}
	for _, l := range c.stream {
		if l.what == pghub.ActionSubscribe { // it was queued before
			c.subscribed = append(c.subscribed, subscribed{topic: l.topic, from: l.at, to: never})
		}
	}
}

// start starts the hub and all that moves around it.
func (h *soakHub) start(ctx context.Context) error {
	if err := h.hub.Start(ctx); err != nil {
		return err
	}
	at := h.soak.now()
	for _, c := range h.consumers {
		if c.steady {
			for _, topic := range h.soak.topics {
				c.subscribed = append(c.subscribed, subscribed{topic: topic, from: at, to: never})
			}
		}
	}
	h.begin()
	return nil
}

// stop stops the hub gracefully: everything that was committed before is still delivered.
func (h *soakHub) stop(t *testing.T) {
	at := h.soak.now()
	ctx, cancel := context.WithTimeout(t.Context(), soakStops)
	defer cancel()
	require.NoError(t, h.hub.Stop(ctx), h.name)
	h.wandering()
	for _, c := range h.consumers {
		if c.consumer != nil {
			<-c.consumer.Done()
		}
		c.end(at)
	}
}
