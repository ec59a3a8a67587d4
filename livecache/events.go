package livecache

import (
	"context"
	"errors"
	"fmt"

	"github.com/pghub/pghub"
)

// handle is the handler of the cache's consumer.
func (c *Cache[K, V]) handle(_ context.Context, ev *pghub.Event) {
	switch {
	case ev.Advisory == nil:
		c.apply(ev)
	case ev.Advisory.Action == pghub.ActionSubscribe:
		c.begun, c.refused = true, false
	case ev.Advisory.Action == pghub.ActionDisconnect:
		c.lost = true
		c.outages.Add(1)
		c.deaf(c.cfg.Outage == LoadThrough)
	case ev.Advisory.Action == pghub.ActionReconnect:
		c.begun, c.lost, c.refused = true, false, ev.Advisory.Err != nil
		if ev.Advisory.Gap == (pghub.Gap{}) { // as with topics of stream.Config.Live: no Resync follows
			c.goOn()
		}
	case ev.Advisory.Final:
		c.deaf(true)
	}
}

// goOn ends an outage in which nothing was missed.
func (c *Cache[K, V]) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live.Load() {
		c.setLiveLocked(true)
	}
	c.hears.Store(!c.closed)
}

// mayKeep says whether what is read now may be kept: events come, or their absence is put up with.
func (c *Cache[K, V]) mayKeep() bool {
	return c.begun && (c.isReached() || c.cfg.Outage == ServeCached)
}

// isReached says whether events come.
func (c *Cache[K, V]) isReached() bool { return c.begun && !c.lost && !c.refused }

// deaf begins a time without events, and with end one in which nothing is kept.
func (c *Cache[K, V]) deaf(end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hears.Store(false)
	if end && c.live.Load() {
		c.setLiveLocked(false)
	}
}

// apply forgets what an event is about. Whatever Key does, the event is not passed over.
func (c *Cache[K, V]) apply(ev *pghub.Event) {
	understood := false
	defer func() {
		if !understood { // also where Key panics, or ends the goroutine: the hub reports that
			c.InvalidateAll()
		}
	}()
	keys, err := c.keysOf(ev)
	switch {
	case err == nil:
		c.Invalidate(keys...)
		understood = true
	case !errors.Is(err, ErrAll):
		c.misunderstood.Add(1)
		c.cfg.OnError(fmt.Errorf("livecache: everything is dropped: %w", err))
	}
}

func (c *Cache[K, V]) keysOf(ev *pghub.Event) ([]K, error) {
	if ev.AnnouncesGap() { // and Resync is called behind it
		return nil, ErrAll
	}
	own := &pghub.Event{Topic: ev.Topic, Payload: ev.Payload, PID: ev.PID, Record: ev.Record} // ev is shared with other consumers
	if err := c.cfg.Codec.Decode(own); err != nil {
		return nil, &pghub.DecodeError{Topic: ev.Topic, Payload: ev.Payload, Err: err}
	}
	return c.cfg.Key(own)
}

// resync is called when the topic has come into effect, and after each gap, before the next event; and, without a gap, in each
// period of ResyncEvery, whether there is a connection or not.
func (c *Cache[K, V]) resync(ctx context.Context, gap pghub.Gap) error {
	c.mu.Lock()
	if live := c.mayKeep(); gap == (pghub.Gap{}) && live == c.live.Load() {
		c.forgetLocked()
	} else {
		c.setLiveLocked(live)
	}
	generation := c.generation.Load()
	c.spared = make(map[K]struct{})
	c.mu.Unlock()
	values, err := c.loadAll(ctx)
	if err != nil {
		return err
	}
	c.fill(values, generation)
	c.mu.Lock()
	c.hears.Store(!c.closed && c.isReached())
	c.mu.Unlock()
	if c.begun {
		c.becomes.Do(func() { close(c.ready) })
	}
	return nil
}

// loadAll calls LoadAll, if there is one. When that fails, or panics, events wait until it is called again: nothing is kept meanwhile.
func (c *Cache[K, V]) loadAll(ctx context.Context) (values map[K]V, err error) {
	if c.cfg.LoadAll == nil {
		return nil, nil
	}
	succeeded := false
	defer func() {
		if !succeeded {
			c.deaf(true)
		}
	}()
	if values, err = c.cfg.LoadAll(ctx); err != nil {
		return nil, fmt.Errorf("livecache: LoadAll: %w", err)
	}
	succeeded = true
	return values, nil
}

// fill keeps what LoadAll has read. No event has been delivered meanwhile: those wait behind Resync. What Get has loaded meanwhile is
// not older, and stays. What was invalidated by hand may be newer than what was read, and is left out.
func (c *Cache[K, V]) fill(values map[K]V, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spared := c.spared
	c.spared = nil
	if !c.live.Load() || c.generation.Load() != generation {
		return
	}
	for key, value := range values {
		if _, newer := spared[key]; !newer {
			c.entries.SetIfAbsent(key, entry[V]{value, true, generation})
		}
	}
}

// Rows is a Key for tables whose key is one integer: what pghub.watch announces at any level, and what Notify sends with the
// keys of rows and nothing else to say. A TRUNCATE, the end of a mute, and an event that names no rows are [ErrAll].
func Rows(ev *pghub.Event) ([]int64, error) {
	var change pghub.Change
	if ev.Value != nil {
		var err error
		if change, err = pghub.Decode[pghub.Change](ev); err != nil {
			return nil, err
		}
	}
	if change.Op == pghub.Truncate || change.Op == pghub.Unmute || change.Width > 1 || len(change.IDs) > 0 {
		return nil, ErrAll
	}
	var keys []int64
	if change.Part == 0 && change.OldKey == nil {
		keys = ev.Key
	} else {
		for key := range change.Keys(ev.Key) {
			keys = append(keys, key...)
		}
	}
	if len(keys) == 0 {
		return nil, ErrAll
	}
	return keys, nil
}
