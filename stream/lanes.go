package stream

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
)

// lanes hand events to handlers: each lane is a goroutine that handles one after another.
type lanes struct {
	t      *tenure
	ctx    context.Context
	cancel context.CancelCauseFunc
	seed   maphash.Seed
	queues []chan job
	all    sync.WaitGroup

	mu    sync.Mutex
	again map[Position]struct{} // events that are tried once more, beside the stream, and are under way
}

// job is an event in a lane. item is nil for one that is tried once more beside the stream.
type job struct {
	ev   *pghub.Event
	item *item
}

const laneQueue = 256

// workInLanes reads the stream and has handlers get its events, until the consumer is to stop.
func (d *Durable) workInLanes(ctx context.Context, t *tenure, handler Handler) error {
	l := &lanes{t: t, seed: maphash.MakeSeed(), again: make(map[Position]struct{})}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	defer l.cancel(nil)
	for range d.cfg.Lanes {
		queue := make(chan job, laneQueue)
		l.queues = append(l.queues, queue)
		l.all.Go(func() { l.run(queue, handler) })
	}
	err := t.read(l.ctx, l)
	for _, queue := range l.queues {
		close(queue)
	}
	l.all.Wait()
	if cause := context.Cause(l.ctx); cause != nil && !errors.Is(cause, errStopping) {
		return cause
	}
	if errors.Is(err, errStopping) {
		return nil
	}
	return err
}

// run is a lane. What it has begun it finishes; when the consumer is to stop it begins nothing more.
func (l *lanes) run(queue <-chan job, handler Handler) {
	for j := range queue {
		if l.ctx.Err() != nil {
			continue // the queue is emptied
		}
		if err := l.t.untilDone(l.ctx, j.ev, handler); err != nil {
			l.cancel(err)
			continue
		}
		if j.item != nil {
			l.t.progress.finish(j.item)
		} else {
			l.t.succeeded(l.ctx, j.ev.Record.Position) // nothing, if it has been parked again
			l.mu.Lock()
			delete(l.again, j.ev.Record.Position)
			l.mu.Unlock()
		}
	}
}

// take puts an event into its lane, waiting for room.
func (l *lanes) take(ev *pghub.Event, it *item) error {
	select {
	case l.queues[l.laneOf(ev)] <- job{ev, it}:
		return nil
	case <-l.t.d.stopping:
		return errStopping
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

func (l *lanes) laneOf(ev *pghub.Event) int {
	if len(l.queues) == 1 {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	_, _ = h.WriteString(ev.Topic)
	_, _ = h.Write(appendKey([]byte{0}, ev.Key))
	return int(h.Sum64() % uint64(len(l.queues)))
}

// idle waits until everything that was taken is done, so that a gap is handled behind what came before it.
func (l *lanes) idle() error {
	for l.t.progress.unfinished() > 0 {
		if err := l.t.rest(l.ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// read brings the events of the stream into lanes, and those that somebody wants to have tried again.
func (t *tenure) read(ctx context.Context, l *lanes) error {
	d := t.d
	r := d.s.pager.open(t.progress.position(), d.cfg.Topics)
	defer r.close()
	failures, lookAgain := 0, true
	for {
		tick, changed := d.s.bus.nextTick(), d.s.bus.nextChange(d.name)
		if lookAgain {
			if err := l.takeAgain(ctx); err != nil {
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
			if err := l.idle(); err != nil {
				return err
			}
			if err := t.missed(ctx, r.gap(pg)); err != nil {
				return err
			}
			r.at = pg.end
			continue
		}
		failures = 0
		for _, ev := range pg.events {
			select {
			case t.progress.room <- struct{}{}:
			case <-d.stopping:
				return errStopping
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := l.take(ev, t.progress.add(ev.Record.Position)); err != nil {
				return err
			}
		}
		t.progress.pass(pg.end)
		if pg.state != pageEnd {
			continue
		}
		select {
		case <-tick:
		case <-changed:
			lookAgain = true
		case <-d.stopping:
			return errStopping
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// takeAgain takes up events that pghub.unpark or pghub.replay have put before the consumer.
func (l *lanes) takeAgain(ctx context.Context) error {
	events, err := l.t.again(ctx)
	if err != nil {
		return err
	}
	for _, ev := range events {
		l.mu.Lock()
		_, underWay := l.again[ev.Record.Position]
		l.again[ev.Record.Position] = struct{}{}
		l.mu.Unlock()
		if underWay {
			continue
		}
		if err := l.take(ev, nil); err != nil {
			return err
		}
	}
	return nil
}

// again reads the events that are to be tried once more. They are counted, so that succeeded forgets them.
func (t *tenure) again(ctx context.Context) (events []*pghub.Event, err error) {
	const sql = `SELECT tick, txn, id, topic, key, value, headers, at FROM pghub.parked WHERE consumer = $1 AND again ORDER BY tick, txn, id LIMIT 10000`
	err = t.insist(ctx, func(ctx context.Context) error {
		return t.d.s.db.do(ctx, func(c conn) error {
			rows, err := c.Query(ctx, sql, t.d.name)
			if err != nil {
				return err
			}
			events, err = pgx.CollectRows(rows, scanEvent)
			return err
		})
	})
	return events, err
}

func encodeHeaders(headers map[string]string) string {
	text, err := json.Marshal(headers)
	if err != nil {
		return "{}" // cannot be: keys and values are text
	}
	return string(text)
}

// cleanText is text that PostgreSQL takes.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
