package main

import (
	"context"
	"errors"
	"log"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

// job is a row of table jobs.
type job struct {
	ID   int64
	Task string
}

// workers does the jobs in a table. The table is the queue: a job is a row, whoever locks it does it, and it is deleted in the
// same transaction. Events only say that it is worth looking, so nobody asks an empty table again and again, and a lost
// event costs nothing: there is one look at the table after each gap.
type workers struct {
	pool  *pgxpool.Pool
	do    func(ctx context.Context, j job) error
	awake chan struct{} // a token for each worker that is to look
}

// newWorkers subscribes workers to the events of the table. Any number of processes may have some.
func newWorkers(ctx context.Context, hub *pghub.Hub, pool *pgxpool.Pool, count int, do func(context.Context, job) error) (*workers, error) {
	w := &workers{pool: pool, do: do, awake: make(chan struct{}, count)}
	_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			w.wake()
		}
	}, &pghub.ConsumerConfig{
		Topics: []string{"jobs"},
		Resync: func(context.Context, pghub.Gap) error { w.wake(); return nil },
		// Jobs that were there before anybody listened are found by this first look.
		ResyncFirst: true,
	})
	return w, err
}

// wake has every worker look at the table. One that is busy will look when it is done.
func (w *workers) wake() {
	for {
		select {
		case w.awake <- struct{}{}:
		default:
			return
		}
	}
}

// run works until ctx ends. Jobs in hand are finished, or taken by somebody else later: there is no third way.
func (w *workers) run(ctx context.Context) {
	var all sync.WaitGroup
	for range cap(w.awake) {
		all.Go(func() {
			for {
				select {
				case <-w.awake:
					w.workOff(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
}

// workOff does jobs until there are none. After an error it waits a moment: the database may be away.
func (w *workers) workOff(ctx context.Context) {
	for ctx.Err() == nil {
		found, err := w.one(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			log.Printf("worker: %v", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		case !found:
			return
		}
	}
}

// one does one job. SKIP LOCKED leaves out those that other workers have, in this process or in another one.
func (w *workers) one(ctx context.Context) (found bool, err error) {
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		var j job
		err := tx.QueryRow(ctx, `DELETE FROM jobs WHERE id =
			(SELECT id FROM jobs ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id, task`).Scan(&j.ID, &j.Task)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return w.do(ctx, j) // if it fails the row stays
	})
	return found, err
}
