package pghub

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// turnEvents is how many events a consumer gets before it is another consumer's turn.
const turnEvents = 256

// owedResync is a call of Resync that has to succeed before the next event is delivered.
type owedResync struct {
	gap      Gap
	hasGap   bool // as opposed to the first call, and those of ResyncEvery
	failures int
}

// turn delivers up to turnEvents events. again: more are waiting. If the handler ends its goroutine (runtime.Goexit) the
// turn ends with it, and the next one goes on where it stopped.
func (c *Consumer) turn() (again bool) {
	for range turnEvents {
		if c.owed != nil {
			c.resyncUntilDone()
		}
		ev := c.queue.next()
		if ev == nil {
			return false
		}
		c.handle(ev)
	}
	return true
}

// handle calls the handler with an event, and does what follows from some advisories, and from a gap that a publisher announces.
func (c *Consumer) handle(ev *Event) {
	if ev.Advisory != nil || ev.gap {
		c.note(ev)
	}
	returned := false
	defer func() {
		if !returned {
			c.count().panics.Add(1)
			c.hub.report.trouble("panic", fmt.Errorf("pghub: %s, on an event of topic %q: %w\n%s", c.describe(), ev.Topic, thrown("handler", recover()), debug.Stack()))
		}
		if !ev.isResyncMark() {
			c.queue.done()
		}
		switch {
		case ev.Advisory != nil:
			c.advised(ev.Advisory)
		case ev.gap && c.resync != nil:
			c.owed = &owedResync{gap: announcedGap(ev.Payload), hasGap: true}
		}
	}()
	if !ev.isResyncMark() {
		c.handler(c.ctx, ev)
	}
	returned = true
}

// advised does what follows from an advisory that the handler has had.
func (c *Consumer) advised(a *Advisory) {
	switch {
	case a.Final:
		c.hub.retire(c)
	case c.resync != nil && a.wantsResync():
		c.owed = &owedResync{gap: a.Gap, hasGap: a.Action != ""}
	}
}

// resyncUntilDone calls Resync until it succeeds or the consumer is closed.
func (c *Consumer) resyncUntilDone() {
	cfg := &c.hub.cfg
	for c.ctx.Err() == nil {
		if n := c.owed.failures; n > 0 {
			c.wait(backoff(n-1, cfg.ReconnectMin, cfg.ReconnectMax))
		}
		if leave, ok := c.admitted(); ok && c.tryResync(leave) {
			c.count().resyncs.Add(1)
			c.owed = nil
			c.resyncing.again()
			return
		}
	}
	c.owed = nil
	if err := cfg.BaseContext.Err(); err != nil { // else the consumer is closed
		c.hub.report.trouble("resync", fmt.Errorf("pghub: resync of %s is given up: BaseContext has ended: %w", c.describe(), err))
	}
}

// wait returns after d, or when the consumer is closed.
func (c *Consumer) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// tryResync calls Resync, and leave after it.
func (c *Consumer) tryResync(leave func()) (ok bool) {
	defer leave()
	var err error
	returned := false
	defer func() {
		if !returned {
			c.count().panics.Add(1)
			err = fmt.Errorf("%w\n%s", thrown("Resync", recover()), debug.Stack())
		}
		if err != nil {
			c.owed.failures++
			c.count().resyncErrors.Add(1)
			c.hub.report.trouble("resync", fmt.Errorf("pghub: resync of %s: %w", c.describe(), err))
		}
	}()
	err = c.resync(c.ctx, c.owed.gap)
	returned = true
	return err == nil
}

// describe names the consumer in errors and in the log.
func (c *Consumer) describe() string { return c.describeWith(c.Topics()) }

func (c *Consumer) describeLocked() string { return c.describeWith(c.topicsLocked()) }

func (c *Consumer) describeWith(topics []string) string {
	const shown = 3
	more := ""
	if len(topics) > shown {
		topics, more = topics[:shown], fmt.Sprintf(" and %d more", len(topics)-shown)
	}
	if c.name != "" {
		return fmt.Sprintf("consumer %q (topics %q%s)", c.name, topics, more)
	}
	return fmt.Sprintf("a consumer of topics %q%s", topics, more)
}

// backoff is the wait before the attempt after so many failures: random, so that many hubs do not come back in step.
func backoff(failures int, lowest, highest time.Duration) time.Duration {
	ceiling := highest
	if lowest < highest>>failures {
		ceiling = lowest << failures
	}
	return rand.N(ceiling)
}
