package main

import (
	"context"
	"time"
)

var crowds = []int{1000, 10_000}

func stuckSections(scale float64) []*section {
	begin := &section{
		name:  "begin to block",
		title: "An event behind handlers that begin to block",
		about: "One burst has an event for n consumers, whose handlers block, and behind it one for a quick consumer: the time until " +
			"that one's handler is called. None of the handlers returns before.",
		unit:       seconds,
		references: []string{byGoroutines},
	}
	stuck := &section{
		name:  "stuck",
		title: "Events while handlers are stuck",
		about: "99th percentile of how late 1,000 events a second come to a quick consumer, while the handlers of n other consumers " +
			"are blocked.",
		unit:       seconds,
		references: []string{byGoroutines},
		columns:    columns{latency: true},
	}
	for _, n := range crowds {
		begin.cases = append(begin.cases, fanOutCase(count(n, "handler"), func(ctx context.Context, way fanOut) (sample, error) {
			return beginTrial(ctx, way, n)
		}))
		stuck.cases = append(stuck.cases, fanOutCase(count(n, "handler"), func(ctx context.Context, way fanOut) (sample, error) {
			return stuckTrial(ctx, way, n, scaled(500, scale))
		}))
	}
	released := &section{
		name:  "released",
		title: "10,000 handlers released together",
		about: "The handlers of 10,000 consumers are blocked, and return all at once, while a quick consumer gets an event every " +
			"100 µs. Reader away: the longest time from when the reader's Read returned to when it came to read again. Quick event: the " +
			"longest time from when an event was sent to when the quick consumer's handler was called.",
		unit:       seconds,
		references: []string{byGoroutines},
	}
	for _, job := range []struct {
		name   string
		figure func(*crowd) time.Duration
	}{
		{"reader away", func(c *crowd) time.Duration { return c.conn.longest() }},
		{"quick event", func(c *crowd) time.Duration { return c.latest }},
	} {
		released.cases = append(released.cases, fanOutCase(job.name, func(ctx context.Context, way fanOut) (sample, error) {
			return releasedTrial(ctx, way, 10_000, job.figure)
		}))
	}
	slow := &section{
		name:       "slow handlers",
		title:      "1,000 handlers of a millisecond each",
		about:      "One event goes to 1,000 consumers, each of which sleeps for a millisecond in its handler: the time until all have done so.",
		unit:       seconds,
		references: []string{byGoroutines},
	}
	slow.cases = []benchCase{fanOutCase("1000 handlers", func(ctx context.Context, way fanOut) (sample, error) {
		return slowTrial(ctx, way, 1000)
	})}
	return []*section{begin, stuck, released, slow}
}

func untilReleased(released <-chan struct{}) { <-released }

// newStuckCrowd is a crowd whose handlers are all blocked.
func newStuckCrowd(ctx context.Context, way fanOut, n, events int) (*crowd, error) {
	c, err := newCrowd(ctx, way, n, events+1, untilReleased)
	if err != nil {
		return nil, err
	}
	begin() // what was garbage before is not collected meanwhile
	c.sendCrowd()
	err = c.waitForQuick(ctx)
	if err == nil {
		err = c.waitForCrowd(ctx, &c.begun)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func beginTrial(ctx context.Context, way fanOut, n int) (s sample, err error) {
	c, err := newStuckCrowd(ctx, way, n, 0)
	if err != nil {
		return s, err
	}
	defer c.close()
	s.value = c.latest.Seconds()
	return s, nil
}

func stuckTrial(ctx context.Context, way fanOut, n, events int) (s sample, err error) {
	c, err := newStuckCrowd(ctx, way, n, events)
	if err != nil {
		return s, err
	}
	defer c.close()
	c.late = histogram{} // the first event came while they began to block
	frame := notifications(fanOutTopic, 1)
	start := time.Now()
	for i := range events {
		sleepUntil(start.Add(time.Duration(i) * time.Millisecond))
		c.sendQuick(frame)
	}
	if err := c.waitForQuick(ctx); err != nil {
		return s, err
	}
	c.late.fill(&s)
	s.value = s.p99.Seconds()
	return s, nil
}

func releasedTrial(ctx context.Context, way fanOut, n int, figure func(*crowd) time.Duration) (s sample, err error) {
	const (
		interval = 100 * time.Microsecond
		most     = 100_000 // events: ten seconds
		before   = 50      // they are released
		after    = 50      // all have returned
	)
	c, err := newStuckCrowd(ctx, way, n, most)
	if err != nil {
		return s, err
	}
	defer c.close()
	c.latest = 0
	c.conn.longest()
	frame := notifications(fanOutTopic, 1)
	start := time.Now()
	last := most
	for i := 0; i < last && ctx.Err() == nil; i++ {
		sleepUntil(start.Add(time.Duration(i) * interval))
		c.sendQuick(frame)
		if i == before {
			go c.release() // it takes a while to wake so many
		}
		if last == most && c.done.Load() == int64(n) {
			last = min(i+after, most)
		}
	}
	if err := c.waitForQuick(ctx); err != nil {
		return s, err
	}
	s.value = figure(c).Seconds()
	return s, nil
}

func slowTrial(ctx context.Context, way fanOut, n int) (s sample, err error) {
	c, err := newCrowd(ctx, way, n, 1, func(<-chan struct{}) { time.Sleep(time.Millisecond) })
	if err != nil {
		return s, err
	}
	defer c.close()
	begin()
	start := time.Now()
	c.sendCrowd()
	if err := c.waitForCrowd(ctx, &c.done); err != nil {
		return s, err
	}
	s.value = time.Since(start).Seconds()
	return s, c.waitForQuick(ctx)
}
