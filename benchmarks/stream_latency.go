package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const (
	crossingRate = 500 // events a second
	crossingTime = 4 * time.Second
	openFor      = 2 * time.Second // of the transaction that stays open
	openSuffix   = ", a transaction open"
	latencyTopic = "orders"
)

// crossings notes when each numbered event was committed, as the one who wrote it knows it, and when its handler was called.
type crossings struct {
	committed, handled []time.Time
	left               atomic.Int64
	ended              chan struct{}
}

func newCrossings(n int) *crossings {
	c := &crossings{committed: make([]time.Time, n), handled: make([]time.Time, n), ended: make(chan struct{})}
	c.left.Store(2 * int64(n)) // both are noted, in whatever order they come
	return c
}

func (c *crossings) commit(number int64) { c.note(c.committed, number) }
func (c *crossings) handle(number int64) { c.note(c.handled, number) }

func (c *crossings) note(times []time.Time, number int64) {
	if !times[number].IsZero() {
		return // it came again
	}
	times[number] = time.Now()
	if c.left.Add(-1) == 0 {
		close(c.ended)
	}
}

// sample is what they took. A handler may be called before the writer knows that his commit is done.
func (c *crossings) sample() (s sample) {
	var all histogram
	for i, committed := range c.committed {
		all.add(max(c.handled[i].Sub(committed), 0))
	}
	all.fill(&s)
	s.value = s.p50.Seconds()
	return s
}

// crossing is a job: how an event is written, and how handlers are called.
type crossing struct {
	write func(ctx context.Context, number int64) error
	close func()
}

type openCrossing func(ctx context.Context, dsn string, handle func(number int64)) (crossing, error)

func streamLatencySection(l *lab) *section {
	s := &section{
		name:  "stream latency",
		title: "The stream: commit to handler",
		about: fmt.Sprintf("%d events a second, each written by a statement of its own, on a fast disk: the median of the time from when its writer "+
			"knows that it is committed to when the handler of a durable consumer is called, or watermill-sql's subscriber has it. A "+
			"transaction open: one that has written something, in another database, and stays open for %v of the %v. Asleep: one event "+
			"after another, each when the sequencer has gone to sleep.", crossingRate, openFor, crossingTime),
		unit:       seconds,
		references: []string{byDurables, byWatermill, byWatermillTuned},
		columns:    columns{latency: true},
	}
	n := scaled(int(crossingTime.Seconds()*crossingRate), l.scale)
	job := benchCase{name: fmt.Sprintf("%d/s", crossingRate)}
	for _, way := range []struct {
		name string
		open openCrossing
	}{{byDurables, openDurable}, {byWatermill, openWatermillCrossing(false)}, {byWatermillTuned, openWatermillCrossing(true)}} {
		for _, long := range []bool{false, true} {
			name := way.name
			if long {
				name += openSuffix
			}
			job.contenders = append(job.contenders, contender{name, func(ctx context.Context) (sample, error) {
				return crossingTrial(ctx, &l.fast, way.open, n, long)
			}})
		}
	}
	asleep := benchCase{name: "asleep", contenders: []contender{{byDurables, func(ctx context.Context) (sample, error) {
		return asleepTrial(ctx, &l.fast, scaled(wakings, l.scale))
	}}}}
	s.cases = []benchCase{job, asleep}
	return s
}

func crossingTrial(ctx context.Context, server *labServer, open openCrossing, n int, long bool) (s sample, err error) {
	dsn, drop, err := server.database(ctx)
	if err != nil {
		return s, err
	}
	defer drop()
	c := newCrossings(n + warmings)
	way, err := open(ctx, dsn, c.handle)
	if err != nil {
		return s, err
	}
	defer way.close()
	var all sync.WaitGroup
	faults := make(chan error, n+warmings+1)
	send := func(number int) {
		all.Go(func() {
			if err := way.write(ctx, int64(number)); err != nil {
				faults <- err
				return
			}
			c.commit(int64(number))
		})
	}
	begin()
	start := time.Now()
	if long {
		all.Go(func() {
			sleepUntil(start.Add(crossingTime / 8))
			faults <- holdTransaction(ctx, server.server.DSN(), openFor)
		})
	}
	for i := range n + warmings {
		sleepUntil(start.Add(time.Duration(i) * time.Second / crossingRate))
		send(i)
	}
	all.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			return s, err
		}
	}
	select {
	case <-c.ended:
		c.committed, c.handled = c.committed[warmings:], c.handled[warmings:]
		return c.sample(), nil
	case <-ctx.Done():
		return s, errLate
	}
}

// warmings are events that come first and do not count: statements are prepared, and the sequencer wakes up.
const warmings = 100

// holdTransaction keeps a transaction open that has written.
func holdTransaction(ctx context.Context, dsn string, d time.Duration) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "BEGIN; SELECT pg_current_xact_id()")
	if err != nil {
		return err
	}
	sleepUntil(time.Now().Add(d))
	_, err = conn.Exec(ctx, "COMMIT")
	return err
}

// openDurable writes with pghub.publish, and has a durable consumer of a process of its own.
func openDurable(ctx context.Context, dsn string, handle func(number int64)) (c crossing, err error) {
	pool, err := newPool(ctx, dsn, 8)
	if err != nil {
		return c, err
	}
	n, err := openNode(ctx, dsn, 4, stream.Config{Retain: rotating})
	if err != nil {
		pool.Close()
		return c, err
	}
	c.close = func() {
		n.close(ctx)
		pool.Close()
	}
	_, err = n.stream.Durable(ctx, "handles", func(_ context.Context, ev *pghub.Event) error {
		handle(ev.Key[0])
		return nil
	}, &stream.DurableConfig{Topics: []string{latencyTopic}})
	if err != nil {
		c.close()
		return c, err
	}
	write := publishEach(pool, "SELECT pghub.publish($1, $2::bigint[], $3::json)")
	c.write = func(ctx context.Context, number int64) error {
		_, err := write(ctx, number)
		return err
	}
	return c, nil
}

func openWatermillCrossing(tuned bool) openCrossing {
	return func(ctx context.Context, dsn string, handle func(number int64)) (c crossing, err error) {
		w, err := openWatermill(dsn, 12, tuned)
		if err != nil {
			return c, err
		}
		if err := w.initialise(latencyTopic); err != nil {
			w.close()
			return c, err
		}
		p, err := w.publisher()
		if err != nil {
			w.close()
			return c, err
		}
		stop, err := w.subscribe(ctx, latencyTopic, "handles", func(m *message.Message) { handle(numberOf(m)) })
		if err != nil {
			w.close()
			return c, err
		}
		c.write = func(_ context.Context, number int64) error { return p.Publish(latencyTopic, newMessage(number)) }
		c.close = func() {
			stop()
			w.close()
		}
		return c, nil
	}
}
