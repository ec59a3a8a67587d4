package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
)

// route is a Route at work. Its goroutine runs the source; deliver runs on goroutines of the source's.
type route struct {
	cfg      Route
	w        *writer
	want     Want
	rep      *reporter
	parks    bool
	gaps     bool   // the sink takes them
	instance string // begins the IDs of events without a position
	number   atomic.Uint64
	fig      figures

	stopping  context.Context // ends when no further delivery is to begin
	cut       context.Context // ends when those under way are given up
	readyOnce sync.Once
	ready     chan struct{} // closed when the source is in effect
}

// gapTopic is the topic of a message that says that events may be missing.
const gapTopic = "pghub.gap"

// newRoute makes a route. The error says what is wrong with it.
func newRoute(cfg Route, rep *reporter, stopping, cut context.Context) (*route, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w, err := cfg.writer()
	if err != nil {
		return nil, err
	}
	r := &route{
		cfg: cfg, w: w, rep: rep, stopping: stopping, cut: cut, ready: make(chan struct{}),
		want:     Want{Route: cfg.Name, Topics: cfg.Topics, Match: cfg.Match, Lanes: cfg.Lanes, Batch: cfg.Batch},
		instance: strconv.FormatUint(rand.Uint64(), 36),
	}
	if v, is := cfg.Source.(Validator); is {
		if err := v.Validate(r.want); err != nil {
			return nil, err
		}
	}
	if p, is := cfg.Source.(Parker); is {
		r.parks = p.Parks()
	}
	if g, is := cfg.Sink.(GapTaker); is {
		r.gaps = g.TakesGaps()
	}
	return r, nil
}

// run runs the source until the bridge stops.
func (r *route) run() {
	r.rep.log(slog.LevelInfo, "bridge: a route begins", "route", r.cfg.Name)
	for failures := 0; ; failures++ {
		began := time.Now()
		err := r.runSource()
		if r.stopping.Err() != nil {
			if err != nil {
				r.trouble(fmt.Errorf("the source, as it ended: %w", err))
			}
			return
		}
		if time.Since(began) > r.cfg.RetryMax {
			failures = 0
		}
		r.trouble(fmt.Errorf("the source cannot go on, and is run again: %w", err))
		if r.rest(r.stopping, r.backoff(failures)) != nil {
			return
		}
	}
}

var errEnded = errors.New("it has ended by itself")

func (r *route) runSource() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", pghub.ErrPanic, v, debug.Stack())
		}
	}()
	err = r.cfg.Source.Run(r.stopping, r.want, r.deliver, func() { r.readyOnce.Do(func() { close(r.ready) }) })
	if err == nil && r.stopping.Err() == nil {
		err = errEnded
	}
	return err
}

// outgoing is a message on its way to the sink.
type outgoing struct {
	m    *Message
	item int // its place in the delivery
}

// deliver is the route's Deliver.
func (r *route) deliver(ctx context.Context, items []Item) (refused []Refused, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.cut, cancel)()

	pending := make([]outgoing, 0, len(items))
	var refusals []refusedOne
	for i := range items {
		m, err := r.message(&items[i])
		switch {
		case m == nil: // a gap, and the sink does not want it
		case err != nil && m.Gap != nil:
			r.trouble(fmt.Errorf("the message about a gap cannot be made: %w", err))
		case err != nil:
			refusals = append(refusals, refusedOne{outgoing{m, i}, err})
		default:
			pending = append(pending, outgoing{m, i})
		}
	}
	h := r.fig.begin(len(pending), oldest(pending))
	left, err := r.send(ctx, h, pending, func(o outgoing, reason error) {
		if o.m.Gap != nil {
			r.trouble(fmt.Errorf("the message about a gap is refused: %w", reason))
			return
		}
		refusals = append(refusals, refusedOne{o, reason})
	})
	r.fig.end(h, len(left))
	for _, one := range refusals {
		if err == nil || one.m.Position.IsZero() { // else it comes again, and is refused again
			r.refused(one)
			refused = append(refused, Refused{one.item, one.reason})
		}
	}
	if err != nil {
		r.lose(left)
		return nil, err
	}
	return refused, nil
}

// refusedOne is a message that will not be taken.
type refusedOne struct {
	outgoing
	reason error
}

// refused counts a message that will not be taken, and says so.
func (r *route) refused(one refusedOne) {
	r.fig.refused.Add(1)
	fate := "reported, and not sent"
	if r.parks {
		r.fig.parked.Add(1)
		fate = "parked"
	}
	r.trouble(fmt.Errorf("message %s of topic %q is refused, and %s: %w", one.m.ID, one.m.Topic, fate, one.reason))
}

// lose counts what is not settled, and kept by nobody.
func (r *route) lose(left []outgoing) {
	n := uint64(0)
	for _, o := range left {
		if o.m.Gap == nil && o.m.Position.IsZero() {
			n++
		}
	}
	if n > 0 {
		r.fig.lost.Add(n)
		r.trouble(fmt.Errorf("%d events are lost: the bridge stops, the sink has not taken them, and the source keeps none", n))
	}
}

func oldest(pending []outgoing) time.Time {
	if len(pending) == 0 {
		return time.Time{}
	}
	return pending[0].m.Time
}

// message makes the message of an item. nil: there is none. With an error it has what names it.
func (r *route) message(it *Item) (*Message, error) {
	m := &Message{Route: r.cfg.Name, Again: it.Again, Gap: it.Gap, Time: time.Now()}
	ev := it.Event
	if it.Gap != nil {
		r.fig.gaps.Add(1)
		r.trouble(fmt.Errorf("events may be missing: %s", it.Gap.Reason))
		if !r.gaps {
			return nil, nil
		}
		ev = it.Gap.event()
	}
	if ev.Record != nil {
		m.Position, m.Time = ev.Record.Position, ev.Record.Time
	}
	if m.Position.IsZero() {
		m.ID = r.instance + "-" + strconv.FormatUint(r.number.Add(1), 10)
	} else {
		m.ID = m.Position.String()
	}
	return m, r.w.write(ev, m)
}

// event is the gap as an event, for templates and formats.
func (g *Gap) event() *pghub.Event {
	value := struct {
		Since   *time.Time `json:"since,omitempty"`
		Until   *time.Time `json:"until,omitempty"`
		Dropped uint64     `json:"dropped,omitempty"`
		Reason  string     `json:"reason"`
	}{Dropped: g.Dropped, Reason: g.Reason}
	if !g.Since.IsZero() {
		value.Since = &g.Since
	}
	if !g.Until.IsZero() {
		value.Until = &g.Until
	}
	text, err := json.Marshal(value)
	if err != nil { // a time before the year 0 or behind 9999
		text = []byte("{}")
	}
	return &pghub.Event{Topic: gapTopic, Value: text, Payload: text}
}

func (r *route) trouble(err error) {
	r.rep.trouble(fmt.Errorf("bridge: route %q: %w", r.cfg.Name, err), "route", r.cfg.Name)
}

// backoff is the wait after so many failures, not counting the first.
func (r *route) backoff(failures int) time.Duration {
	ceiling := r.cfg.RetryMax
	if failures < 32 && r.cfg.RetryMin < ceiling>>failures {
		ceiling = r.cfg.RetryMin << failures
	}
	return rand.N(ceiling + 1)
}

// rest waits. The error says that ctx has ended, or that the bridge stops.
func (r *route) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.stopping.Done():
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
