package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// StreamConfig says how a stream is read. nil means its zero value.
type StreamConfig struct {
	// Name of the durable consumer, under which the position is kept. Each route of a stream has its own. "": "bridge." and the
	// route's name.
	Name string

	// From is where it begins the first time that the name is used. The zero value is stream.Earliest.
	From stream.Start

	// Poison is what becomes of a message that the broker refuses for good: stream.Park, with its reason, or stream.Halt, which
	// stops the route in front of it: it tries again, with backoff, until somebody mends it.
	Poison stream.Poison

	// Lease is for how long others wait before they take over from a process that has ended without a word. 0: the stream's.
	Lease time.Duration
}

// FromStream is the events of a stream, at least once and in order. The route is a durable consumer: of many processes with the
// same one, one works and the others stand by. Its position is stored about once a second, and when the bridge stops, and is never
// in front of a message that the broker has not taken. What is refused for good is parked: see the views of package sql, and
// pghub.unpark.
func FromStream(s *stream.Stream, cfg *StreamConfig) Source {
	if cfg == nil {
		cfg = &StreamConfig{}
	}
	return &streamSource{s, *cfg, drainTimeout}
}

type streamSource struct {
	s   *stream.Stream
	cfg StreamConfig

	drain time.Duration // how long it may take to end
}

// Validate refuses what no stream can do.
func (s *streamSource) Validate(w Want) error {
	switch {
	case s.s == nil:
		return errors.New("the stream is nil")
	case len(s.consumer(w.Route)) > maxConsumer:
		return fmt.Errorf("consumer %q of the stream has %d bytes; at most %d: set StreamConfig.Name", s.consumer(w.Route), len(s.consumer(w.Route)), maxConsumer)
	case s.cfg.Lease != 0 && s.cfg.Lease < minLease:
		return fmt.Errorf("StreamConfig.Lease is %v; at least %v", s.cfg.Lease, minLease)
	case s.cfg.Poison != stream.Park && s.cfg.Poison != stream.Halt:
		return fmt.Errorf("StreamConfig.Poison is %d; stream.Park or stream.Halt", s.cfg.Poison)
	}
	return w.checkTopics()
}

// Limits of package stream.
const (
	minLease    = 100 * time.Millisecond
	maxConsumer = 63
)

// consumer is the name of a route's durable consumer.
func (s *streamSource) consumer(route string) string { return orDefault(s.cfg.Name, "bridge."+route) }

// sharedConsumer refuses a route whose consumer of a stream is that of one before it.
func sharedConsumer(routes []*route, r *route) error {
	mine, is := r.cfg.Source.(*streamSource)
	if !is {
		return nil
	}
	name := mine.consumer(r.cfg.Name)
	for _, other := range routes {
		if s, is := other.cfg.Source.(*streamSource); is && s.s == mine.s && s.consumer(other.cfg.Name) == name {
			return fmt.Errorf("consumer %q of the stream is that of route %q: StreamConfig.Name is for one route", name, other.cfg.Name)
		}
	}
	return nil
}

// Parks says that a stream parks what is refused.
func (s *streamSource) Parks() bool { return s.cfg.Poison == stream.Park }

// Run is a durable consumer.
func (s *streamSource) Run(ctx context.Context, w Want, deliver Deliver, ready func()) error {
	cfg := &stream.DurableConfig{
		Topics: w.Topics, From: s.cfg.From, Poison: s.cfg.Poison, Lease: s.cfg.Lease, Batch: w.Batch, Lanes: w.Lanes,
		MaxAttempts: -1, // the route tries again by itself
		Resync: func(ctx context.Context, gap stream.Gap) error {
			_, err := deliver(ctx, []Item{{Gap: gapOfStream(gap)}})
			return err
		},
	}
	if len(w.Match) > 0 {
		cfg.Topics = nil // all are read, and those that are not wanted left out
	}
	d, err := s.consume(ctx, s.consumer(w.Route), cfg, w, deliver)
	if err != nil {
		return err
	}
	ready()
	select {
	case <-d.Done():
	case <-ctx.Done():
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
		defer cancel()
		err := d.Stop(within) // ends when the delivery under way does
		if err != nil {       // or the database does not answer
			d.Close()
			<-d.Done()
		}
		return err
	}
	if err := d.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the durable consumer has ended: %w", pghub.ErrStopped)
}

func (s *streamSource) consume(ctx context.Context, name string, cfg *stream.DurableConfig, w Want, deliver Deliver) (*stream.Durable, error) {
	if w.Lanes > 1 {
		return s.s.Durable(ctx, name, func(ctx context.Context, ev *pghub.Event) error {
			if !w.Wants(ev.Topic) {
				return nil
			}
			refused, err := deliver(ctx, []Item{{Event: ev}})
			if len(refused) > 0 {
				err = stream.Skip(refused[0].Reason)
			}
			return err
		}, cfg)
	}
	return s.s.DurableBatch(ctx, name, func(ctx context.Context, b *stream.Batch) error {
		items := make([]Item, 0, len(b.Events))
		places := make([]int, 0, len(b.Events))
		for i, ev := range b.Events {
			if w.Wants(ev.Topic) {
				items, places = append(items, Item{Event: ev, Again: b.Again}), append(places, i)
			}
		}
		if len(items) == 0 {
			return nil
		}
		refused, err := deliver(ctx, items)
		for _, r := range refused {
			b.Park(places[r.Item], r.Reason)
		}
		return err
	}, cfg)
}

func gapOfStream(gap stream.Gap) *Gap {
	g := &Gap{Until: gap.At}
	if !gap.From.IsZero() {
		g.Since = time.UnixMilli(gap.From.Tick)
	}
	g.Reason = fmt.Sprintf("the stream keeps nothing between %s and %s any more", gap.From, gap.Until)
	if gap.Foreign {
		g.Reason = fmt.Sprintf("position %s is not one of this server; goes on at %s", gap.From, gap.Until)
	}
	return g
}
