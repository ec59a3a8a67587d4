package stream

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
)

// worker is what a tenure hands the events to that it reads.
type worker interface {
	// take takes the events of a page, in their order.
	take(ctx context.Context, events []*pghub.Event) error
	// takeAgain takes events that pghub.unpark or pghub.replay have put before the consumer. They are apart from the stream's order.
	takeAgain(ctx context.Context, events []*pghub.Event) error
	// idle returns when everything that was taken is done.
	idle(ctx context.Context) error
}

// read hands the events of the stream to a worker, and those that somebody wants to have tried again, until the consumer is
// to stop (errStopping), or the tenure ends.
func (t *tenure) read(ctx context.Context, w worker) error {
	d := t.d
	r := d.s.pager.open(t.progress.position(), d.cfg.Topics)
	defer r.close()
	failures, lookAgain := 0, true
	changed := d.s.bus.nextChange(d.name)
	for {
		select {
		case <-changed:
			changed, lookAgain = d.s.bus.nextChange(d.name), true
		default:
		}
		if lookAgain {
			if err := t.readAgain(ctx, w); err != nil {
				return err
			}
			lookAgain = false
		}
		pg, err := r.next(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.isStopping():
			return errStopping
		case err != nil:
			d.s.trouble("read", err)
			if err := t.rest(ctx, d.s.host.Backoff(failures)); err != nil {
				return err
			}
			failures++
			continue
		case pg.state == pageExpired || pg.state == pageForeign:
			if err := w.idle(ctx); err != nil { // a gap is handled behind what came before it
				return err
			}
			if err := t.missed(ctx, r.gap(pg)); err != nil {
				return err
			}
			r.at = pg.end
			continue
		}
		failures = 0
		if err := w.take(ctx, pg.events); err != nil {
			return err
		}
		t.progress.pass(pg.end)
		if pg.state != pageEnd {
			continue
		}
		select {
		case <-pg.tick:
		case <-changed: // the loop begins with it
		case <-d.stopping:
			return errStopping
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readAgain hands the events to a worker that are to be tried once more.
func (t *tenure) readAgain(ctx context.Context, w worker) error {
	for after := (Position{}); ; {
		events, err := t.again(ctx, after)
		if err == nil {
			err = w.takeAgain(ctx, events)
		}
		if err != nil || len(events) < pageEvents {
			return err
		}
		after = events[len(events)-1].Record.Position // those before are under way
	}
}

// again reads events that are to be tried once more.
func (t *tenure) again(ctx context.Context, after Position) (events []*pghub.Event, err error) {
	const sql = `SELECT tick, txn, id, topic, key, value, headers, at FROM pghub.parked
		WHERE consumer = $1 AND again AND (tick, txn, id) > ($2, $3, $4) ORDER BY tick, txn, id LIMIT $5`
	err = t.insist(ctx, func(ctx context.Context) error {
		return t.d.s.db.do(ctx, func(c conn) error {
			rows, err := c.Query(ctx, sql, t.d.name, after.Tick, after.Txn, after.ID, pageEvents)
			if err != nil {
				return err
			}
			events, err = pgx.CollectRows(rows, scanEvent)
			return err
		})
	})
	return events, err
}
