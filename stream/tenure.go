package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// tenure is a time in which this process works for a consumer. Everything that it stores, it stores with the token: if
// another process has taken over, the server says ErrFenced, and the tenure ends.
type tenure struct {
	d        *Durable
	token    int64
	progress *progress
	known    map[Position]int // attempts that are stored; not changed after the beginning
	wary     atomic.Int64     // so many events are still counted before they are tried: the last owner may have died of one

	loaded  Position  // that the server had at the beginning
	stored  Position  // owned by keep
	renewed time.Time // owned by keep

	mu        sync.Mutex
	confirmed Position // that the server has said to have stored; guarded by mu
}

// waryEvents is how many events after a death are counted before they are tried.
const waryEvents = 1000

// storeInterval is how often a position is stored at most.
const storeInterval = time.Second

// attach takes the consumer, or says how long somebody else has it.
func (d *Durable) attach(ctx context.Context) (t *tenure, wait time.Duration, err error) {
	var token *int64
	var tick, txn, id *int64
	var deaths *int
	var held *time.Duration
	const sql = `SELECT token, tick, txn, id, deaths, wait FROM pghub.attach($1, $2, $3, $4, $5)`
	began := time.Now()
	err = d.s.db.row(ctx, []any{&token, &tick, &txn, &id, &deaths, &held}, sql, d.name, d.owner, d.cfg.Lease, d.cfg.Topics, d.cfg.From.where)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case token == nil && held == nil: // it has just been forgotten
		return nil, 0, nil
	case token == nil:
		return nil, *held, nil
	}
	at := Position{Tick: *tick, Txn: *txn, ID: *id}
	t = &tenure{d: d, token: *token, progress: newProgress(at), known: make(map[Position]int), loaded: at, stored: at, confirmed: at, renewed: began}
	switch {
	case *deaths > 0:
		t.wary.Store(waryEvents)
	case d.broke.Swap(false):
		t.wary.Store(int64(d.cfg.Batch))
	}
	if err := t.learn(ctx); err != nil {
		t.leave()
		return nil, 0, err
	}
	return t, 0, nil
}

// learn reads which events have been tried before.
func (t *tenure) learn(ctx context.Context) error {
	return t.d.s.db.do(ctx, func(c conn) error {
		rows, err := c.Query(ctx, `SELECT tick, txn, id, attempts FROM pghub.attempts WHERE consumer = $1`, t.d.name)
		if err != nil {
			return err
		}
		var p Position
		var n int
		_, err = pgx.ForEachRow(rows, []any{&p.Tick, &p.Txn, &p.ID, &n}, func() error {
			t.known[p] = n
			return nil
		})
		return err
	})
}

// serve works until the consumer is to stop, or somebody else works for it, and leaves the consumer to others.
func (d *Durable) serve(t *tenure) error {
	d.mu.Lock()
	d.current = t
	d.mu.Unlock()
	d.s.log(slog.LevelInfo, "durable "+d.name, "this process works for a consumer", "consumer", d.name, "position", t.progress.position().String())

	ctx, cancel := context.WithCancelCause(d.ctx)
	ended := make(chan struct{})
	var keeper sync.WaitGroup
	keeper.Go(func() { t.keep(ctx, ended, cancel) })
	err := d.work(ctx, t)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, ErrHalted) {
		err = cause
	}
	close(ended)
	keeper.Wait()
	cancel(nil)

	d.mu.Lock()
	d.current, d.last = nil, t.progress.position()
	d.mu.Unlock()
	switch {
	case errors.Is(err, errSetBack):
		d.s.pager.forget()
		d.s.trouble("durable", fmt.Errorf("consumer %q goes on from what the server has: %w", d.name, err))
		t.detach()
		err = nil
	case !errors.Is(err, ErrFenced):
		t.leave()
	}
	if errors.Is(err, errStopping) || errors.Is(err, context.Canceled) && d.ctx.Err() != nil {
		return nil
	}
	return err
}

// keep stores the position, at most once a storeInterval, and keeps the lease. It ends the work when the lease is lost.
func (t *tenure) keep(ctx context.Context, ended <-chan struct{}, cancel context.CancelCauseFunc) {
	lease := t.d.cfg.Lease
	ticker := time.NewTicker(min(storeInterval, lease/3))
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if t.progress.position() == t.stored && time.Since(t.renewed) < lease/3 {
			continue
		}
		err := t.store(ctx, lease)
		switch {
		case errors.Is(err, ErrFenced), errors.Is(err, errSetBack):
			cancel(err)
			return
		case err != nil && time.Since(t.renewed) > lease && ctx.Err() == nil:
			cancel(fmt.Errorf("the lease could not be kept: %w", err))
			return
		}
	}
}

// store stores the position, and keeps the lease.
func (t *tenure) store(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at, began := t.progress.position(), time.Now()
	if err := t.storeAt(ctx, at, false); err != nil {
		return err
	}
	t.stored, t.renewed = at, began
	return nil
}

const storeSQL = `SELECT pghub.store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// storeArgs says what to store, and what the server must not have lost.
func (t *tenure) storeArgs(at Position, back bool) []any {
	since := t.lastConfirmed()
	return []any{t.d.name, t.token, t.d.cfg.Lease, at.Tick, at.Txn, at.ID, back, since.Tick, since.Txn, since.ID}
}

func (t *tenure) storeAt(ctx context.Context, at Position, back bool) error {
	err := t.d.s.db.exec(ctx, storeSQL, t.storeArgs(at, back)...)
	if err == nil {
		t.confirm(at, back)
	}
	return err
}

func (t *tenure) lastConfirmed() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.confirmed
}

// confirm notes that the server has stored a position.
func (t *tenure) confirm(at Position, back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if back || at.Compare(t.confirmed) > 0 {
		t.confirmed = at
	}
}

// leave stores the position for the last time and gives the consumer up. If the server cannot be had, the lease ends by itself.
func (t *tenure) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), max(t.d.cfg.Lease, time.Second))
	defer cancel()
	if err := t.store(ctx, t.d.cfg.Lease); err == nil || errors.Is(err, errSetBack) {
		t.detach()
	}
}

// detach lets another process take over at once.
func (t *tenure) detach() {
	ctx, cancel := context.WithTimeout(context.Background(), max(t.d.cfg.Lease, time.Second))
	defer cancel()
	_ = t.d.s.db.exec(ctx, `SELECT pghub.detach($1, $2)`, t.d.name, t.token) // else the lease ends by itself
}

// errSetBack says that the server is not where it was: a failover, or a crash, has lost commits. What it has stored is to be loaded.
var errSetBack = errors.New("the server has been set back")

// missed handles a gap: Resync first, and then it goes on where the stream begins.
func (t *tenure) missed(ctx context.Context, gap Gap) error {
	d := t.d
	if gap.Foreign && gap.From != t.loaded {
		return errSetBack
	}
	d.resyncs.Add(1)
	d.s.trouble("gap", fmt.Errorf("consumer %q: %w", d.name, &GapError{gap}))
	for failures := 0; d.cfg.Resync != nil; failures++ {
		err := guarded("Resync", func() error { return d.cfg.Resync(ctx, gap) })
		if err == nil {
			break
		}
		d.s.trouble("resync", fmt.Errorf("resync of consumer %q: %w", d.name, err))
		if err := t.rest(ctx, d.backoff(failures)); err != nil {
			return err
		}
	}
	if err := t.storeAt(ctx, gap.Until, true); err != nil {
		return err
	}
	t.progress.jump(gap.Until)
	return nil
}

var errStopping = errors.New("the consumer is to stop")

// rest waits. The error says that the consumer is to stop, or that the tenure has ended.
func (t *tenure) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-t.d.stopping:
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
