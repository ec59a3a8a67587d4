package main

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pghub/pghub/internal/fakepg"
)

func fanOutSections(scale float64) []*section {
	burst := &section{
		name:  "fan-out",
		title: "Fan-out",
		about: "A scripted server in this process sends bursts of 700 events of 64 bytes; every consumer gets each of them. Counted " +
			"are calls of handlers.",
		references: []string{byGoroutines},
		columns:    columns{cost: true},
	}
	for _, c := range []struct{ consumers, deliveries int }{{1, 500_000}, {100, 10_000_000}, {10_000, 7_000_000}} {
		deliveries := scaled(c.deliveries, scale)
		burst.cases = append(burst.cases, fanOutCase(count(c.consumers, "consumer"), func(ctx context.Context, way fanOut) (sample, error) {
			return fanOutTrial(ctx, way, c.consumers, deliveries)
		}))
	}
	single := &section{
		name:       "one to many",
		title:      "One event to 10,000 consumers",
		about:      "99th percentile, over all consumers, of the time from when the event was sent to when the handler was called.",
		unit:       seconds,
		references: []string{byGoroutines},
		columns:    columns{latency: true},
	}
	single.cases = []benchCase{fanOutCase("one event", func(ctx context.Context, way fanOut) (sample, error) {
		return oneToManyTrial(ctx, way, scaled(50, scale))
	})}
	slow := &section{
		name:  "slow neighbour",
		title: "Slow neighbour",
		about: "99th percentile of how late 1,000 events a second come to 99 consumers; the hundredth is like them, or sleeps for " +
			"2 ms in its handler with each event.",
		unit:       seconds,
		references: []string{byHub + ", nobody slow", byGoroutines + ", nobody slow"},
		columns:    columns{latency: true},
	}
	var job benchCase
	job.name = "99 consumers"
	for _, sleep := range []time.Duration{0, 2 * time.Millisecond} {
		suffix := ", nobody slow"
		if sleep > 0 {
			suffix = ", one sleeps"
		}
		for _, c := range fanOutCase("", func(ctx context.Context, way fanOut) (sample, error) {
			return neighbourTrial(ctx, way, sleep, scaled(500, scale))
		}).contenders {
			job.contenders = append(job.contenders, contender{c.name + suffix, c.trial})
		}
	}
	slow.cases = []benchCase{job}
	return []*section{burst, single, slow}
}

func fanOutCase(name string, trial func(context.Context, fanOut) (sample, error)) benchCase {
	return benchCase{name: name, contenders: []contender{
		{byGoroutines, func(ctx context.Context) (sample, error) { return trial(ctx, fanOutGoroutines) }},
		{byHub, func(ctx context.Context) (sample, error) { return trial(ctx, fanOutHub) }},
	}}
}

// notifications are so many frames on a topic as a server sends them.
func notifications(topic string, n int) []byte {
	var frames []byte
	for i := range n {
		const size = 64
		head := "e" + strconv.Itoa(i) + `:"`
		var err error
		frames, err = (&pgproto3.NotificationResponse{
			PID: 1, Channel: topic, Payload: head + strings.Repeat("x", size-len(head)-1) + `"`,
		}).Encode(frames)
		if err != nil {
			panic(err) // they are all of the same kind
		}
	}
	return frames
}

// tally stands on a cache line of its own.
type tally struct {
	n atomic.Int64
	_ [56]byte
}

func fanOutTrial(ctx context.Context, way fanOut, consumers, deliveries int) (s sample, err error) {
	server := fakepg.New()
	defer server.Close()
	handled := make([]tally, consumers)
	end, err := way(ctx, server.Config(), repeat(fanOutTopic, consumers), func(consumer int) {
		n := &handled[consumer].n
		n.Store(n.Load() + 1) // a consumer is never called concurrently with itself
	})
	if err != nil {
		return s, err
	}
	defer end()
	const perBurst, lead = 700, 7000 // no queue of a hub is full before 16,384
	frames := notifications(fanOutTopic, perBurst)
	bursts := max(deliveries/consumers/perBurst, 1)

	m := begin()
	start := time.Now()
	for sent := range bursts {
		server.SendRaw(frames)
		if err := waitForAll(ctx, handled, (sent+1)*perBurst-lead); err != nil {
			return s, err
		}
	}
	if err := waitForAll(ctx, handled, bursts*perBurst); err != nil {
		return s, err
	}
	elapsed := time.Since(start)
	m.end(&s, bursts*perBurst*consumers)
	s.value = float64(bursts*perBurst*consumers) / elapsed.Seconds()
	return s, nil
}

// waitForAll waits until every consumer has handled n events.
func waitForAll(ctx context.Context, handled []tally, n int) error {
	for i := range handled {
		if err := waitUntil(ctx, func() bool { return handled[i].n.Load() >= int64(n) }); err != nil {
			return err
		}
	}
	return nil
}

func oneToManyTrial(ctx context.Context, way fanOut, events int) (s sample, err error) {
	const consumers = 10_000
	server := fakepg.New()
	defer server.Close()
	var sent time.Time
	late := make([]time.Duration, consumers)
	var handled [1]tally
	end, err := way(ctx, server.Config(), repeat(fanOutTopic, consumers), func(consumer int) {
		late[consumer] = time.Since(sent)
		handled[0].n.Add(1)
	})
	if err != nil {
		return s, err
	}
	defer end()
	frame := notifications(fanOutTopic, 1)
	var all histogram
	begin()
	for i := range events {
		time.Sleep(2 * time.Millisecond) // everybody is idle
		sent = time.Now()
		server.SendRaw(frame)
		if err := waitForAll(ctx, handled[:], (i+1)*consumers); err != nil {
			return s, err
		}
		for _, d := range late {
			all.add(d)
		}
	}
	all.fill(&s)
	s.value = s.p99.Seconds()
	return s, nil
}

func neighbourTrial(ctx context.Context, way fanOut, sleep time.Duration, events int) (s sample, err error) {
	const consumers = 100
	server := fakepg.New()
	defer server.Close()
	sent := make([]time.Time, events)
	late := make([]histogram, consumers)
	handled := make([]tally, consumers)
	var over atomic.Bool
	end, err := way(ctx, server.Config(), repeat(fanOutTopic, consumers), func(consumer int) {
		if consumer == 0 && sleep > 0 {
			if !over.Load() {
				time.Sleep(sleep)
			}
			return
		}
		n := &handled[consumer].n
		late[consumer].add(time.Since(sent[n.Load()]))
		n.Add(1)
	})
	if err != nil {
		return s, err
	}
	defer end()
	defer over.Store(true)
	frame := notifications(fanOutTopic, 1)
	begin()
	start := time.Now()
	for i := range events {
		sleepUntil(start.Add(time.Duration(i) * time.Millisecond))
		sent[i] = time.Now()
		server.SendRaw(frame)
	}
	if err := waitForAll(ctx, handled[1:], events); err != nil {
		return s, err
	}
	var all histogram
	for i := range late[1:] {
		all.merge(&late[1+i])
	}
	all.fill(&s)
	s.value = s.p99.Seconds()
	return s, nil
}
