package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/source"
)

// Handler handles an event of a durable consumer. nil acknowledges it. An error has it tried again, in its place: see
// [RetryAfter] and [Skip]. ctx ends when the consumer is closed, or another process works for it.
type Handler func(ctx context.Context, ev *pghub.Event) error

// Poison says what becomes of an event that fails again and again.
type Poison int

// What to do with an event after MaxAttempts.
const (
	Park Poison = iota // puts it into pghub.stream_parked, with its error, and goes on
	Halt               // stops the consumer in front of it: see Durable.Err
)

// DurableConfig makes a durable consumer. The zero value is of use, and nil means it.
type DurableConfig struct {
	// Topics whose events it gets. nil: all.
	Topics []string

	// From is where it begins the first time that its name is used. The zero value is Earliest. Afterwards it goes on where it was.
	From Start

	// Lanes is how many events are handled at a time: those of one topic and key go into one lane, in their order. The position
	// is that of the last event before which all are done, and at most 10,000 are done ahead of it: these come again after
	// a crash. 0: 1, with which all events come in the order of the stream, transactions whole.
	Lanes int

	// MaxAttempts is how often an event is tried before it counts as poison. Attempts are stored, so that one that ends the
	// process counts too. 0: 20. Negative: no limit.
	MaxAttempts int

	// Poison is what happens then.
	Poison Poison

	// RetryMin and RetryMax bound the wait between two attempts: a random time up to RetryMin·2ⁿ, at most RetryMax. 0: 100 ms and 30 s.
	RetryMin, RetryMax time.Duration

	// Resync is called where events may be missing: the consumer was away for longer than events are kept, or its position
	// is not of this server. It goes on behind Gap.Until when Resync returns nil; an error has it called again, with backoff.
	// nil: the gap is reported to OnError alone.
	Resync func(ctx context.Context, gap Gap) error

	// Lease is for how long others wait before they take over from a process that has ended without a word. 0: the stream's.
	Lease time.Duration

	// Batch is how many events a handler of DurableTx or DurableBatch gets at most. 0: 100.
	Batch int
}

const (
	defaultAttempts = 20
	defaultRetryMin = 100 * time.Millisecond
	defaultRetryMax = 30 * time.Second
	defaultBatch    = 100
	maxLanes        = 1024
)

func (c *DurableConfig) withDefaults(s *Stream) (cfg DurableConfig, err error) {
	if c != nil {
		cfg = *c
	}
	for _, topic := range cfg.Topics {
		if err := checkTopic(topic); err != nil {
			return cfg, err
		}
	}
	if len(cfg.Topics) == 0 {
		cfg.Topics = nil
	}
	if cfg.Lanes == 0 {
		cfg.Lanes = 1
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = defaultAttempts
	}
	if cfg.RetryMin == 0 {
		cfg.RetryMin = defaultRetryMin
	}
	if cfg.RetryMax == 0 {
		cfg.RetryMax = max(defaultRetryMax, cfg.RetryMin)
	}
	if cfg.Lease == 0 {
		cfg.Lease = s.cfg.Lease
	}
	if cfg.Batch == 0 {
		cfg.Batch = defaultBatch
	}
	cfg.From = cfg.From.orEarliest()
	switch {
	case cfg.Lanes < 1, cfg.Lanes > maxLanes:
		err = fmt.Errorf("the number of lanes is %d; 1 to %d", cfg.Lanes, maxLanes)
	case cfg.RetryMin < 0, cfg.RetryMax < cfg.RetryMin:
		err = fmt.Errorf("wrong backoff: RetryMin is %v and RetryMax %v", cfg.RetryMin, cfg.RetryMax)
	case cfg.Lease < minLease:
		err = fmt.Errorf("the lease is %v; at least %v", cfg.Lease, minLease)
	case cfg.Batch < 1, cfg.Batch > pageEvents:
		err = fmt.Errorf("the batch is %d; 1 to %d", cfg.Batch, pageEvents)
	case cfg.Poison != Park && cfg.Poison != Halt:
		err = fmt.Errorf("no such choice for poison: %d", cfg.Poison)
	}
	return cfg, err
}

// pageEvents is how many events a page has at most.
const pageEvents = 10_000

// Durable is a named consumer: it gets every event at least once, and goes on where it was, whichever process it runs in. Of
// many processes with one name, one works, and the others stand by.
type Durable struct {
	s     *Stream
	name  string
	owner string // of its leases
	cfg   DurableConfig
	work  func(ctx context.Context, t *tenure) error // until it is to stop
	broke atomic.Bool                                // a transaction of DurableTx ended without an answer: the handler may have outlasted the lease

	ctx      context.Context // ends when it is closed
	cancel   context.CancelFunc
	stopOnce sync.Once
	stopping chan struct{}
	done     chan struct{}

	delivered, failed, parked, resyncs atomic.Uint64

	mu      sync.Mutex
	current *tenure
	last    Position
	err     error
}

// Durable makes a consumer whose handler gets the events of the stream one at a time, each at least once: see
// [DurableConfig]. It returns when the name is known to the server, whoever works for it then; ctx bounds that and nothing else. The consumer
// ends with the stream.
func (s *Stream) Durable(ctx context.Context, name string, handler Handler, cfg *DurableConfig) (*Durable, error) {
	if handler == nil {
		return nil, errors.New("pghub/stream: durable: the handler is nil")
	}
	return s.durable(ctx, name, cfg, func(ctx context.Context, t *tenure) error { return workInLanes(ctx, t, handler) })
}

func (s *Stream) durable(ctx context.Context, name string, cfg *DurableConfig, work func(context.Context, *tenure) error) (*Durable, error) {
	full, err := cfg.withDefaults(s)
	if err != nil {
		return nil, fmt.Errorf("pghub/stream: durable %q: %w", name, err)
	}
	d := &Durable{
		s: s, name: name, owner: fmt.Sprintf("%s:%d", s.owner, s.made.Add(1)), cfg: full, work: work,
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
	d.ctx, d.cancel = context.WithCancel(source.WithCaller(s.host.BaseContext(), source.Caller{Host: s.host, Who: d}))
	changed := s.bus.nextChange(name) // before it is tried: it may become free while, or just after, the server says that it is not
	t, wait, err := d.attach(ctx)
	if err == nil {
		err = s.enlist(d)
	}
	if err != nil {
		d.cancel()
		if t != nil {
			t.leave()
		}
		return nil, fmt.Errorf("pghub/stream: durable %q: %w", name, err)
	}
	go d.run(t, wait, changed)
	return d, nil
}

// Name is the consumer's.
func (d *Durable) Name() string { return d.name }

// Stop has the consumer finish what its handlers have begun, stores its position and lets another process take over at once. It
// returns when that is done. If ctx ends first it goes on; Close cuts it short. Given the context of one of the consumer's own
// handlers, or of its Resync, it does not wait, since that would be for itself; nor does Stop of the hub.
func (d *Durable) Stop(ctx context.Context) error {
	d.stopOnce.Do(func() { close(d.stopping) })
	if source.CallerOf(ctx).Who == d {
		return nil
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pghub/stream: stop of %q: %w", d.name, ctx.Err())
	}
}

// Close ends the consumer: the contexts of its handlers end, and what they do not acknowledge comes again. It waits for
// nothing: see Done.
func (d *Durable) Close() {
	d.stopOnce.Do(func() { close(d.stopping) })
	d.cancel()
}

// Done is closed when the consumer has ended and no handler of it runs.
func (d *Durable) Done() <-chan struct{} { return d.done }

// Err says why the consumer ended by itself: ErrHalted. nil if it did not.
func (d *Durable) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Position is how far it has come: everything up to it is done. While another process works for it, it is where this one was last.
func (d *Durable) Position() Position {
	d.mu.Lock()
	t, last := d.current, d.last
	d.mu.Unlock()
	if t != nil {
		return t.progress.position()
	}
	return last
}

// DurableStats are the figures of a durable consumer in this process.
type DurableStats struct {
	Name      string
	Working   bool // this process works for it
	Position  Position
	Delivered uint64 // events that the handler acknowledged
	Failed    uint64 // attempts that failed
	Parked    uint64
	Resyncs   uint64 // gaps
	InHand    int    // events read and not acknowledged
}

// Stats returns the consumer's figures.
func (d *Durable) Stats() DurableStats {
	st := DurableStats{
		Name: d.name, Position: d.Position(), Delivered: d.delivered.Load(), Failed: d.failed.Load(), Parked: d.parked.Load(), Resyncs: d.resyncs.Load(),
	}
	d.mu.Lock()
	t := d.current
	d.mu.Unlock()
	if t != nil {
		st.Working, st.InHand = true, t.progress.unfinished()
	}
	return st
}

func (d *Durable) isStopping() bool {
	select {
	case <-d.stopping:
		return true
	default:
		return false
	}
}

// run works whenever this process has the consumer's lease, and stands by else.
func (d *Durable) run(t *tenure, standBy time.Duration, changed <-chan struct{}) {
	defer close(d.done)
	defer d.cancel()
	defer d.s.delist(d)
	failures := 0
	for {
		if t != nil {
			err := d.serve(t)
			d.broke.Store(errors.Is(err, errBroken))
			switch {
			case errors.Is(err, ErrHalted):
				d.mu.Lock()
				d.err = err
				d.mu.Unlock()
				d.s.halted.Add(1)
				d.s.trouble("durable", fmt.Errorf("consumer %q: %w", d.name, err))
				return
			case err != nil && d.ctx.Err() == nil:
				d.s.trouble("durable", fmt.Errorf("consumer %q: %w", d.name, err))
				standBy = d.s.host.Backoff(failures)
				failures++
			default:
				failures, standBy = 0, 0
			}
			changed = d.s.bus.nextChange(d.name)
		}
		if t == nil || standBy > 0 {
			if !d.pause(min(max(standBy, time.Millisecond), d.cfg.Lease), changed) {
				return
			}
		}
		if d.isStopping() || d.ctx.Err() != nil {
			return
		}
		changed = d.s.bus.nextChange(d.name)
		var err error
		if t, standBy, err = d.attach(d.ctx); err != nil {
			t, standBy = nil, d.s.host.Backoff(failures)
			failures++
			if d.ctx.Err() == nil {
				d.s.trouble("durable", fmt.Errorf("consumer %q: %w", d.name, err))
			}
		}
	}
}

// pause waits for d, for a change of the consumer, or for the end, which makes it false.
func (d *Durable) pause(delay time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-d.stopping:
		return false
	case <-d.ctx.Done():
		return false
	}
	return true
}
