package main

import (
	"context"
	"log"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

// cache is a copy of table prices in memory. Events only say which rows have changed; what they look like now is read
// from the table. So it does not matter that an event may come twice, or late.
type cache struct {
	pool   *pgxpool.Pool
	loaded chan struct{} // closed when the table has been read for the first time
	once   sync.Once

	reading sync.Mutex // held from a query until its result is stored: an older result never replaces a newer one

	mu     sync.RWMutex
	prices map[int64]int64
}

// newCache returns a cache that is up to date, and stays so for as long as the hub runs. The hub has to be started.
func newCache(ctx context.Context, hub *pghub.Hub, pool *pgxpool.Pool) (*cache, error) {
	c := &cache{pool: pool, loaded: make(chan struct{}), prices: make(map[int64]int64)}
	// ResyncFirst: the table is read when the subscription is in effect. A change is either in what is read then, or
	// announced by an event behind it. The table is read there and at gaps, by the same function, and nowhere else.
	_, err := hub.Consumer(ctx, c.handle, &pghub.ConsumerConfig{Topics: []string{"prices"}, Resync: c.resync, ResyncFirst: true})
	if err != nil {
		return nil, err
	}
	select {
	case <-c.loaded:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get returns the price of an item, without asking the database.
func (c *cache) get(id int64) (price int64, found bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	price, found = c.prices[id]
	return price, found
}

// all returns a copy of the cache.
func (c *cache) all() map[int64]int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.prices)
}

// handle reads the rows that an event names. If the database does not answer it tries again: the event has been
// delivered and will not come a second time. It may take its time, other consumers do not wait for it.
func (c *cache) handle(ctx context.Context, ev *pghub.Event) {
	if ev.Advisory != nil {
		return // a gap is the business of resync
	}
	for {
		err := c.apply(ctx, ev)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Printf("cache: %v", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// resync is called in the beginning and at a gap: after a reconnect, when nobody knows what was missed meanwhile, and after
// a lag, when the cache was too slow. It comes before the first event that follows. If it fails the hub calls it again.
func (c *cache) resync(ctx context.Context, gap pghub.Gap) error {
	if gap != (pghub.Gap{}) {
		log.Printf("cache: reload, because of a gap: connection lost for %v, %d events dropped",
			gap.Until.Sub(gap.Since).Round(time.Millisecond), gap.Dropped)
	}
	err := c.load(ctx)
	if err == nil {
		c.once.Do(func() { close(c.loaded) })
	}
	return err
}

// load reads the whole table.
func (c *cache) load(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	prices, err := query(ctx, c.pool, `SELECT id, price FROM pghub_example.prices`)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prices = prices
	return nil
}

// apply does what an event says: all rows are gone, or those with its keys have changed.
func (c *cache) apply(ctx context.Context, ev *pghub.Event) error {
	change, err := pghub.Decode[pghub.Change](ev)
	switch {
	case err != nil:
		return err
	case change.Op == "truncate":
		return c.load(ctx)
	}
	return c.refresh(ctx, ev.Key)
}

// refresh reads the rows with these keys. One that is not there has been deleted.
func (c *cache) refresh(ctx context.Context, keys []int64) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	prices, err := query(ctx, c.pool, `SELECT id, price FROM pghub_example.prices WHERE id = ANY($1)`, keys)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range keys {
		delete(c.prices, id)
	}
	maps.Copy(c.prices, prices)
	return nil
}

func query(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (map[int64]int64, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	prices := make(map[int64]int64)
	var id, price int64
	_, err = pgx.ForEachRow(rows, []any{&id, &price}, func() error {
		prices[id] = price
		return nil
	})
	return prices, err
}
