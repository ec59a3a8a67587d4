package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub"
)

// TxHandler handles events in a transaction that also stores the consumer's position: what it does with tx is done once for each
// event, and only once. An error rolls back; the events come again one at a time. tx is committed for it, and must not
// be by it.
type TxHandler func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error

// DurableTx makes a consumer whose handler gets up to DurableConfig.Batch events with a transaction of the pool's, READ COMMITTED. Lanes is
// one. A handler that does not touch the transaction for as long as the lease loses it. For the rest see [Stream.Durable].
func (s *Stream) DurableTx(ctx context.Context, name string, handler TxHandler, cfg *DurableConfig) (*Durable, error) {
	if handler == nil {
		return nil, errors.New("pghub/stream: durable: the handler is nil")
	}
	if cfg != nil && cfg.Lanes > 1 {
		return nil, fmt.Errorf("pghub/stream: durable %q: Lanes is %d; with DurableTx 1", name, cfg.Lanes)
	}
	return s.durable(ctx, name, cfg, func(ctx context.Context, t *tenure) error { return t.read(ctx, &batches{t: t, handler: handler}) })
}

var (
	// errNotBegun says that the handler was not called.
	errNotBegun = errors.New("no transaction could be begun")
	// errBroken says that a transaction ended without an answer. What became of it, the stored position says.
	errBroken = errors.New("the connection was lost in a transaction")
)

// batches is the work of a DurableTx.
type batches struct {
	t       *tenure
	handler TxHandler
}

// takeAgain handles events that are to be tried once more.
func (b *batches) takeAgain(ctx context.Context, events []*pghub.Event) error {
	for _, ev := range events {
		if err := b.alone(ctx, ev, false); err != nil {
			return err
		}
	}
	return nil
}

// idle has nothing to wait for.
func (b *batches) idle(context.Context) error { return nil }

// take handles the events of a page.
func (b *batches) take(ctx context.Context, events []*pghub.Event) error {
	t, d := b.t, b.t.d
	for len(events) > 0 {
		if d.isStopping() {
			return errStopping
		}
		n := min(len(events), d.cfg.Batch)
		if t.wary.Load() > 0 || len(t.known) > 0 && n > 1 && b.isKnown(events[:n]) {
			n = 1
		}
		batch := events[:n]
		events = events[n:]
		if t.wary.Load() > 0 || n == 1 && b.isKnown(batch) {
			if err := b.alone(ctx, batch[0], true); err != nil {
				return err
			}
			continue
		}
		err := guarded("the handler", func() error { return b.try(ctx, attempted(batch), true) })
		switch {
		case err == nil:
			d.delivered.Add(uint64(n))
			t.progress.pass(batch[n-1].Record.Position)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errBroken), errors.Is(err, errNotBegun), errors.Is(err, ErrFenced), errors.Is(err, errSetBack):
			return err
		default:
			d.failed.Add(1)
			d.s.trouble("handler", fmt.Errorf("consumer %q, %d events from %v: %w", d.name, n, batch[0].Record.Position, err))
			for _, ev := range batch {
				if err := b.alone(ctx, ev, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *batches) isKnown(events []*pghub.Event) bool {
	for _, ev := range events {
		if b.t.known[ev.Record.Position] > 0 {
			return true
		}
	}
	return false
}

// alone handles one event until it is done. ahead: it is the next of the stream, and not one that is tried beside it.
func (b *batches) alone(ctx context.Context, ev *pghub.Event, ahead bool) error {
	done, err := b.t.untilDone(ctx, ev, ahead, func(ctx context.Context, ev *pghub.Event) error {
		return b.try(ctx, []*pghub.Event{ev}, ahead)
	})
	if err != nil || !ahead {
		return err // one that is tried beside the stream has its attempts forgotten in its transaction
	}
	if done.counted && !done.parked {
		b.t.succeeded(ctx, ev.Record.Position)
	}
	b.t.progress.pass(ev.Record.Position)
	return nil
}

// attempted is events of a first attempt, apart from those that other readers share.
func attempted(events []*pghub.Event) []*pghub.Event {
	own := make([]*pghub.Event, len(events))
	for i, ev := range events {
		copied, record := *ev, *ev.Record
		record.Attempt = 1
		copied.Record = &record
		own[i] = &copied
	}
	return own
}

// try handles events in a transaction. The position, and COMMIT, go out together.
func (b *batches) try(ctx context.Context, events []*pghub.Event, ahead bool) error {
	t, d := b.t, b.t.d
	conn, err := d.s.host.Pool().Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer conn.Release()
	// A process that is stopped in the middle must not keep what it has locked from its successor.
	begin := fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = %d", d.cfg.Lease.Milliseconds())
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	rollBack := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = tx.Rollback(ctx) // else the connection is closed
	}
	returned := false
	defer func() {
		if !returned {
			rollBack() // the handler panicked
		}
	}()
	err = b.handler(ctx, handlerTx{tx}, events)
	returned = true
	if err != nil {
		rollBack()
		return err
	}
	var batch pgx.Batch
	if ahead {
		batch.Queue(storeSQL, t.storeArgs(events[len(events)-1].Record.Position, false)...)
	} else {
		at := events[0].Record.Position
		batch.Queue(`SELECT pghub.succeeded($1, $2, $3, $4, $5)`, d.name, t.token, at.Tick, at.Txn, at.ID)
	}
	batch.Queue(`COMMIT`)
	results := conn.SendBatch(ctx, &batch)
	_, err = results.Exec()
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = results.Exec()
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	var pgErr *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		if ahead {
			t.confirm(events[len(events)-1].Record.Position, false)
		}
		return nil
	case err == nil:
		return fmt.Errorf("the transaction was rolled back: %s", tag)
	case errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR":
		rollBack()
		return named(err)
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// handlerTx is the transaction as a handler gets it.
type handlerTx struct{ pgx.Tx }

var errNotYours = errors.New("pghub/stream: the transaction of a DurableTx is ended for its handler: return nil, or an error")

// Commit is not for handlers.
func (handlerTx) Commit(context.Context) error { return errNotYours }

// Rollback is not for handlers.
func (handlerTx) Rollback(context.Context) error { return errNotYours }
