package stream

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

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
func workInLanes(ctx context.Context, t *tenure, handler Handler) error {
	l := &lanes{t: t, seed: maphash.MakeSeed(), again: make(map[Position]struct{})}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	defer l.cancel(nil)
	for range t.d.cfg.Lanes {
		queue := make(chan job, laneQueue)
		l.queues = append(l.queues, queue)
		l.all.Go(func() { l.run(queue, handler) })
	}
	err := t.read(l.ctx, l)
	for _, queue := range l.queues {
		close(queue)
	}
	l.all.Wait()
	if cause := context.Cause(l.ctx); cause != nil {
		return cause // a lane's
	}
	return err
}

// run is a lane. What it has begun it finishes; when the consumer is to stop it begins nothing more.
func (l *lanes) run(queue <-chan job, handler Handler) {
	for j := range queue {
		if l.ctx.Err() != nil {
			continue // the queue is emptied
		}
		done, err := l.t.untilDone(l.ctx, j.ev, false, handler)
		if err != nil {
			if !errors.Is(err, errStopping) { // else the other lanes finish what they have begun
				l.cancel(err)
			}
			continue
		}
		at := j.ev.Record.Position
		if !done.parked && (done.counted || j.item == nil) {
			l.t.succeeded(l.ctx, at)
		}
		if j.item != nil {
			l.t.progress.finish(j.item)
			continue
		}
		l.mu.Lock()
		delete(l.again, at)
		l.mu.Unlock()
	}
}

// put puts an event into its lane, waiting for room.
func (l *lanes) put(ctx context.Context, ev *pghub.Event, it *item) error {
	select {
	case l.queues[l.laneOf(ev)] <- job{ev, it}:
		return nil
	case <-l.t.d.stopping:
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
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

// idle waits until everything that was taken is done.
func (l *lanes) idle(ctx context.Context) error {
	for l.t.progress.unfinished() > 0 {
		if err := l.t.rest(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// take puts the events of a page into their lanes.
func (l *lanes) take(ctx context.Context, events []*pghub.Event) error {
	for _, ev := range events {
		select {
		case l.t.progress.room <- struct{}{}:
		case <-l.t.d.stopping:
			return errStopping
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := l.put(ctx, ev, l.t.progress.add(ev.Record.Position)); err != nil {
			return err
		}
	}
	return nil
}

// takeAgain puts events that are to be tried once more into their lanes, unless they are under way there.
func (l *lanes) takeAgain(ctx context.Context, events []*pghub.Event) error {
	for _, ev := range events {
		l.mu.Lock()
		_, underWay := l.again[ev.Record.Position]
		l.again[ev.Record.Position] = struct{}{}
		l.mu.Unlock()
		if underWay {
			continue
		}
		if err := l.put(ctx, ev, nil); err != nil {
			return err
		}
	}
	return nil
}
