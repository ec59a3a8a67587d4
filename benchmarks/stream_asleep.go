package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const (
	sleepers = 8 // databases, each with a stream of its own: one takes more than a second to fall asleep
	wakings  = 6 // of each
)

// asleepTrial wakes streams, one event at a time.
func asleepTrial(ctx context.Context, server *labServer, each int) (s sample, err error) {
	var (
		all    sync.WaitGroup
		mu     sync.Mutex // of what follows
		total  histogram
		faults []error
	)
	for i := range sleepers {
		dsn, drop, err := server.database(ctx)
		if err != nil {
			return s, err
		}
		defer drop()
		all.Go(func() {
			sleepUntil(time.Now().Add(time.Duration(i) * time.Second / sleepers)) // so that they do not wake up together
			taken, err := wake(ctx, dsn, each)
			mu.Lock()
			defer mu.Unlock()
			total.merge(taken)
			faults = append(faults, err)
		})
	}
	all.Wait()
	total.fill(&s)
	s.value = s.p50.Seconds()
	return s, errors.Join(faults...)
}

// wake writes events, each when the sequencer sleeps, and says how long they took to the handler.
func wake(ctx context.Context, dsn string, events int) (taken *histogram, err error) {
	taken = &histogram{}
	n, err := openNode(ctx, dsn, 4, stream.Config{})
	if err != nil {
		return taken, err
	}
	defer n.close(ctx)
	handled := make(chan time.Time, 1)
	_, err = n.stream.Durable(ctx, "handles", func(context.Context, *pghub.Event) error {
		handled <- time.Now()
		return nil
	}, nil)
	if err != nil {
		return taken, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return taken, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for range events {
		slept := n.stream.Stats().Sleeps
		if err := await(ctx, func() bool { return n.stream.Stats().Sleeps > slept }); err != nil {
			return taken, err
		}
		sleepUntil(time.Now().Add(10 * time.Millisecond)) // it says so just before it does
		if _, err := conn.Exec(ctx, "SELECT pghub.publish($1, 1)", latencyTopic); err != nil {
			return taken, err
		}
		committed := time.Now()
		select {
		case at := <-handled:
			taken.add(max(at.Sub(committed), 0))
		case <-ctx.Done():
			return taken, errLate
		}
	}
	return taken, nil
}
