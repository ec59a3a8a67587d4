package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/pghub/pghub"
)

// Batch is what a handler of DurableBatch gets: events in the order of the stream.
type Batch struct {
	Events []*pghub.Event // at least one

	// Again says that the event, which is alone then, comes apart from the order: somebody has it tried once more, see pghub.unpark
	// and pghub.replay.
	Again bool

	parked map[int]error
}

// Park has an event of the batch put aside when the handler returns nil, as Skip has one of a Durable: it is poison, and it will not
// help to try it again. i is its place in Events.
func (b *Batch) Park(i int, reason error) {
	if i < 0 || i >= len(b.Events) {
		panic(fmt.Sprintf("pghub/stream: Park: the batch has %d events, and no %d", len(b.Events), i))
	}
	if reason == nil {
		reason = errors.New("parked")
	}
	if b.parked == nil {
		b.parked = make(map[int]error)
	}
	b.parked[i] = reason
}

// BatchHandler handles a batch. nil acknowledges all of its events but those that it has parked. After an error all events come again,
// one at a time. ctx ends when the consumer is closed, or another process works for it.
type BatchHandler func(ctx context.Context, b *Batch) error

// DurableBatch makes a consumer whose handler gets up to DurableConfig.Batch events at once, in order, each at least once: for
// work that is cheaper for many than for one. It has one lane, and no transaction: the position is stored
// as that of Durable is. After a crash the first events come one at a time, since one of them may have caused it, unless MaxAttempts is
// negative. For the rest see [Stream.Durable].
func (s *Stream) DurableBatch(ctx context.Context, name string, handler BatchHandler, cfg *DurableConfig) (*Durable, error) {
	if handler == nil {
		return nil, errors.New("pghub/stream: durable: the handler is nil")
	}
	if cfg != nil && cfg.Lanes > 1 {
		return nil, fmt.Errorf("pghub/stream: durable %q: Lanes is %d; with DurableBatch 1", name, cfg.Lanes)
	}
	return s.durable(ctx, name, cfg, func(ctx context.Context, t *tenure) error { return t.read(ctx, &groups{t: t, handler: handler}) })
}

// groups is the work of a DurableBatch. It runs on one goroutine.
type groups struct {
	t       *tenure
	handler BatchHandler
}

// idle has nothing to wait for.
func (g *groups) idle(context.Context) error { return nil }

// takeAgain handles events that are to be tried once more.
func (g *groups) takeAgain(ctx context.Context, events []*pghub.Event) error {
	for _, ev := range events {
		if err := g.alone(ctx, ev, true); err != nil {
			return err
		}
	}
	return nil
}

// take handles the events of a page.
func (g *groups) take(ctx context.Context, events []*pghub.Event) error {
	for len(events) > 0 {
		if g.t.d.isStopping() {
			return errStopping
		}
		n := g.together(events)
		var err error
		if n == 0 {
			n, err = 1, g.alone(ctx, events[0], false)
		} else {
			err = g.group(ctx, events[:n])
		}
		if err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// together says how many of the next events may be handled together. 0: the next one may have ended a process, and comes alone.
func (g *groups) together(events []*pghub.Event) int {
	t := g.t
	most := min(len(events), t.d.cfg.Batch)
	switch {
	case t.d.cfg.MaxAttempts < 0:
		return most
	case t.wary.Load() > 0:
		return 0
	}
	for n := range most {
		if len(t.known) > 0 && t.known[events[n].Record.Position] > 0 {
			return n
		}
	}
	return most
}

// group handles events together, or one at a time if that fails.
func (g *groups) group(ctx context.Context, events []*pghub.Event) error {
	t, d := g.t, g.t.d
	b := &Batch{Events: attempted(events)}
	err := guarded("the handler", func() error { return g.handler(ctx, b) })
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		d.failed.Add(1)
		d.s.trouble("handler", fmt.Errorf("consumer %q, %d events from %v: %w", d.name, len(events), events[0].Record.Position, err))
		for _, ev := range events {
			if err := g.alone(ctx, ev, false); err != nil {
				return err
			}
		}
		return nil
	}
	for i, ev := range b.Events { // in their order, for who halts does so at the first
		if reason, parked := b.parked[i]; parked {
			if err := t.poison(ctx, ev, false, 1, reason); err != nil {
				return err
			}
		} else {
			d.delivered.Add(1)
		}
		t.progress.pass(ev.Record.Position)
	}
	return nil
}

// alone handles one event until it is done.
func (g *groups) alone(ctx context.Context, ev *pghub.Event, again bool) error {
	done, err := g.t.untilDone(ctx, ev, false, func(ctx context.Context, ev *pghub.Event) error {
		b := &Batch{Events: []*pghub.Event{ev}, Again: again}
		err := g.handler(ctx, b)
		if reason, parked := b.parked[0]; parked && err == nil {
			err = Skip(reason)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !done.parked && (done.counted || again) {
		g.t.succeeded(ctx, ev.Record.Position)
	}
	if !again {
		g.t.progress.pass(ev.Record.Position)
	}
	return nil
}
