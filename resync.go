package pghub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// resyncing is what a consumer knows of its Resync besides the gaps in its stream: when it is due by itself, and when it has to
// wait. The timer is made with the consumer and ends with it.
type resyncing struct {
	every  time.Duration // 0: only at gaps
	jitter time.Duration
	timer  *time.Timer // nil without every
}

const never = time.Duration(math.MaxInt64)

// resyncEvery begins the first period. It is called before the consumer has anything to do.
func (c *Consumer) resyncEvery() {
	if r := c.resyncing; r != nil && r.every > 0 {
		r.timer = time.AfterFunc(never, c.resyncNow) // which looks at it
		r.again()
	}
}

// again begins another period.
func (r *resyncing) again() {
	if r.timer != nil {
		r.timer.Reset(r.period())
	}
}

func (r *resyncing) stop() {
	if r != nil && r.timer != nil {
		r.timer.Stop()
	}
}

// period is a little longer each time, so that processes that have begun together do not go on together.
func (r *resyncing) period() time.Duration {
	if r.jitter <= 0 {
		return r.every
	}
	return r.every + rand.N(r.jitter)
}

// resyncNow puts a mark into the stream, behind which Resync is called. The period begins anew when that has succeeded.
func (c *Consumer) resyncNow() {
	switch {
	case c.ctx.Err() != nil:
		return
	case c.hub.State() == StateIdle: // Start is still to come
		c.resyncing.again()
		return
	}
	if c.queue.advise(newResyncMark()) || c.linger.hurries(c) {
		c.hub.delivery.add(c)
	}
}

// admitted has a Resync wait for its jitter, which only one at a gap has, and for its places among those of the hub and of the
// cluster. leave gives them back. false: the consumer is closed.
func (c *Consumer) admitted() (leave func(), ok bool) {
	if c.owed.hasGap && c.owed.failures == 0 && c.resyncing.jitter > 0 {
		c.wait(rand.N(c.resyncing.jitter))
	}
	leave = func() {}
	if places := c.hub.resyncs; places != nil {
		select {
		case places <- struct{}{}:
			leave = func() { <-places }
		case <-c.ctx.Done():
		}
	}
	if gate := c.hub.cluster; gate != nil && c.ctx.Err() == nil {
		switch err := gate.enter(c.ctx); {
		case err == nil:
			giveBack := leave
			leave = func() { gate.leave(); giveBack() }
		case c.ctx.Err() == nil:
			c.hub.report.trouble("resync", fmt.Errorf("pghub: resync of %s: %w", c.describe(), err))
		}
	}
	if c.ctx.Err() != nil {
		leave()
		return nil, false
	}
	return leave, true
}
