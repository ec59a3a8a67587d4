package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

const (
	eventsPerSecond = 1000
	endToEndTime    = 2 * time.Second // of a trial
)

// arrivals notes when each numbered event was sent and how long it took. Every number is used once.
type arrivals struct {
	sent  []time.Time
	took  []time.Duration
	left  atomic.Int64
	ended chan struct{}
}

func newArrivals(n int) *arrivals {
	a := &arrivals{sent: make([]time.Time, n), took: make([]time.Duration, n), ended: make(chan struct{})}
	a.left.Store(int64(n))
	return a
}

func (a *arrivals) arrived(number int64) {
	a.took[number] = time.Since(a.sent[number])
	if a.left.Add(-1) == 0 {
		close(a.ended)
	}
}

func endToEndSection(db *database, scale float64) *section {
	n := scaled(int(endToEndTime.Seconds()*eventsPerSecond), scale)
	return &section{
		name:  "end to end",
		title: "End to end",
		about: fmt.Sprintf("Median of the time from the call that publishes, to when the event is in the receiver's hands, at %d events a "+
			"second. Every event is published on time, however long the last one takes. pgx is pool.Exec and WaitForNotification.", eventsPerSecond),
		unit:       seconds,
		references: []string{byPgx},
		columns:    columns{latency: true},
		cases: []benchCase{{name: fmt.Sprintf("%d/s", eventsPerSecond), contenders: []contender{
			{byPgx, func(ctx context.Context) (sample, error) { return endToEndPgx(ctx, db.dsn, n) }},
			{byHub, func(ctx context.Context) (sample, error) { return endToEndHub(ctx, db.dsn, n) }},
		}}},
	}
}

func endToEndPgx(ctx context.Context, dsn string, n int) (s sample, err error) {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		cancel()
		return s, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	defer cancel()
	pool, err := newPool(ctx, dsn, 4)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	if _, err := conn.Exec(ctx, listenSQL([]string{notifyTopic})); err != nil {
		return s, err
	}
	a := newArrivals(n)
	failed := make(chan error, 1)
	go func() {
		for range n {
			notification, err := conn.WaitForNotification(ctx)
			if err != nil {
				failed <- err
				return
			}
			number, err := strconv.ParseInt(notification.Payload, 10, 64)
			if err != nil {
				failed <- err
				return
			}
			a.arrived(number)
		}
		failed <- nil
	}()
	err = a.publish(ctx, func(ctx context.Context, number int64) error {
		_, err := pool.Exec(ctx, "SELECT pg_notify($1, $2)", notifyTopic, strconv.FormatInt(number, 10))
		return err
	})
	if err != nil {
		cancel()
		<-failed
		return s, err
	}
	if err := <-failed; err != nil {
		return s, err
	}
	return a.sample(), nil
}

func endToEndHub(ctx context.Context, dsn string, n int) (s sample, err error) {
	pool, err := newPool(ctx, dsn, 4)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	a := newArrivals(n)
	hub, err := startHub(ctx, pool, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			a.arrived(ev.Key[0])
		}
	}, notifyTopic)
	if err != nil {
		return s, err
	}
	defer func() { _ = hub.Stop(context.WithoutCancel(ctx)) }()
	err = a.publish(ctx, func(ctx context.Context, number int64) error {
		return hub.Notify(ctx, notifyTopic, []int64{number}, nil)
	})
	if err != nil {
		return s, err
	}
	select {
	case <-a.ended:
		return a.sample(), nil
	case <-ctx.Done():
		return s, ctx.Err()
	}
}

// startHub starts a hub with one consumer.
func startHub(ctx context.Context, pool *pgxpool.Pool, handler pghub.Handler, topics ...string) (*pghub.Hub, error) {
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: time.Millisecond})
	if err != nil {
		return nil, err
	}
	if _, err := hub.Consumer(ctx, handler, &pghub.ConsumerConfig{Topics: topics}); err != nil {
		return nil, err
	}
	return hub, hub.Start(ctx)
}

// publish sends all events, each at its time and on a goroutine of its own.
func (a *arrivals) publish(ctx context.Context, send func(ctx context.Context, number int64) error) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var fault error
	begin()
	start := time.Now()
	for i := range a.sent {
		sleepUntil(start.Add(time.Duration(i) * time.Second / eventsPerSecond))
		all.Go(func() {
			a.sent[i] = time.Now()
			if err := send(ctx, int64(i)); err != nil {
				mu.Lock()
				defer mu.Unlock()
				fault = err
			}
		})
	}
	all.Wait()
	return fault
}

func (a *arrivals) sample() (s sample) {
	var all histogram
	for _, d := range a.took {
		all.add(d)
	}
	all.fill(&s)
	s.value = s.p50.Seconds()
	return s
}
