package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pghub/pghub"
)

// HubConfig says how events of a hub are read. nil means its zero value.
type HubConfig struct {
	// QueueSize is how many events wait for the sink. When it is full the oldest go, which is a gap. 0: the hub's. Negative:
	// no bound.
	QueueSize int

	// Codec of the events. nil: the hub's.
	Codec pghub.Codec
}

// FromHub is the events of a hub's topics, at most once: what comes while the bridge is not running is not for it. Where events may
// be missing, because the connection was lost, or the sink was away for so long that the queue ran over, there is a gap. The hub
// may be started before or after the bridge, and has to be stopped behind it; what is notified before both are started is not for the route. A route has one lane, and names its topics.
func FromHub(hub *pghub.Hub, cfg *HubConfig) Source {
	if cfg == nil {
		cfg = &HubConfig{}
	}
	return &hubSource{hub, *cfg}
}

type hubSource struct {
	hub *pghub.Hub
	cfg HubConfig
}

// Validate refuses what a hub cannot do.
func (s *hubSource) Validate(w Want) error {
	switch {
	case s.hub == nil:
		return errors.New("the hub is nil")
	case len(w.Topics) == 0:
		return errors.New("field Topics is empty: a hub listens to topics by name")
	case len(w.Match) > 0:
		return errors.New("field Match is set: a hub listens to topics by name, and not by pattern")
	case w.Lanes > 1:
		return fmt.Errorf("field Lanes is %d; with a hub as source 1", w.Lanes)
	}
	return w.checkTopics()
}

// drainTimeout is how long a source may take to end: for the events of a hub that wait, and for the delivery under way and the
// position of a stream. What holds up a delivery ends when the bridge is cut off.
const drainTimeout = 5 * time.Minute

// Run makes a consumer of the hub, and lets it deliver.
func (s *hubSource) Run(ctx context.Context, w Want, deliver Deliver, ready func()) error {
	handler := func(ctx context.Context, events []*pghub.Event) {
		items := make([]Item, 0, len(events))
		for _, ev := range events {
			if ev.Advisory == nil {
				items = append(items, Item{Event: ev})
			}
			if gap := gapAt(ev); gap != nil {
				items = append(items, Item{Gap: gap})
			}
		}
		if len(items) > 0 {
			_, _ = deliver(ctx, items) // the route has counted and reported what came of it: nobody keeps it
		}
	}
	cfg := &pghub.BatchConfig{Max: w.Batch, ConsumerConfig: pghub.ConsumerConfig{
		Name: "bridge " + w.Route, Topics: w.Topics, QueueSize: s.cfg.QueueSize, Codec: s.cfg.Codec,
	}}
	c, err := s.hub.BatchConsumer(ctx, handler, cfg)
	if err != nil {
		return err
	}
	ready()
	select {
	case <-c.Done():
		return fmt.Errorf("the hub's consumer has ended: %w", pghub.ErrStopped)
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err = c.Drain(within)
	_ = c.Close()
	<-c.Done()
	if errors.Is(err, pghub.ErrClosed) || errors.Is(err, pghub.ErrStopped) {
		return nil
	}
	return err
}

// gapAt is the gap that an event, or an advisory, stands for; nil: none. A Resync would be told of the same ones, but while it
// waits for the broker it would take one of the places of Config.ResyncLimit from other consumers of the hub.
func gapAt(ev *pghub.Event) *Gap {
	a := ev.Advisory
	switch {
	case a == nil && ev.AnnouncesGap():
		var times struct{ Since, Until time.Time }
		_ = ev.Decode(&times) // it need not say them
		return &Gap{Since: times.Since, Until: times.Until, Reason: pghub.ErrMuted.Error()}
	case a == nil:
		return nil
	case a.Action == pghub.ActionLag:
		return &Gap{Dropped: a.Gap.Dropped, Reason: fmt.Sprintf("the sink was too slow: %d events found no room in the queue", a.Gap.Dropped)}
	case a.Action == pghub.ActionReconnect && a.Gap != (pghub.Gap{}), a.Action == pghub.ActionSubscribe && !a.Gap.Since.IsZero():
		g := &Gap{Since: a.Gap.Since, Until: a.Gap.Until, Dropped: a.Gap.Dropped, Reason: "the connection to PostgreSQL was lost"}
		if a.Gap.Err != nil {
			g.Reason += ": " + a.Gap.Err.Error()
		}
		return g
	}
	return nil
}
