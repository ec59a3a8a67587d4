package bridge

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// Bridge brings events of its routes' sources to their sinks. All methods may be called from any goroutine, in every state.
type Bridge struct {
	cfg    Config
	routes []*route
	rep    *reporter

	stopping context.CancelFunc // no further delivery begins
	cut      context.CancelFunc // those under way are given up
	done     chan struct{}

	mu      sync.Mutex
	started bool
	stopped bool
}

// Errors of a Bridge, to use with errors.Is.
var (
	// ErrStarted is the error of a second Start, or Run.
	ErrStarted = errors.New("bridge: already started")
	// ErrStopped is the error of a Start, or Run, behind Stop.
	ErrStopped = errors.New("bridge: stopped")
)

// New makes a bridge. It connects to nothing. The error names the route and the field that is wrong; the sinks are not closed then.
func New(cfg Config) (*Bridge, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, rep: newReporter(&cfg), done: make(chan struct{})}
	var stopping, cut context.Context
	stopping, b.stopping = context.WithCancel(context.Background())
	cut, b.cut = context.WithCancel(context.Background())
	names := make(map[string]bool, len(cfg.Routes))
	for i, rc := range cfg.Routes {
		r, err := newRoute(rc, b.rep, stopping, cut)
		if err == nil && names[rc.Name] {
			err = errors.New("there are two routes of this name")
		}
		if err == nil {
			err = sharedConsumer(b.routes, r)
		}
		if err != nil {
			b.stopping()
			b.cut()
			return nil, fmt.Errorf("bridge: route %d, %q: %w", i+1, rc.Name, err)
		}
		names[rc.Name] = true
		b.routes = append(b.routes, r)
	}
	return b, nil
}

// Run makes a bridge and runs it until ctx ends: New, and then Run of what that made. If the configuration is wrong the sinks are
// not closed.
func Run(ctx context.Context, cfg Config) error {
	b, err := New(cfg)
	if err != nil {
		return err
	}
	return b.Run(ctx)
}

// Start runs the routes and returns when all of their sources are in effect: what is committed from then on reaches the sinks. If
// ctx ends before that the bridge is stopped, and the error says which route is not ready. Sinks connect when they have something
// to send: see Check.
func (b *Bridge) Start(ctx context.Context) error {
	if err := b.begin(); err != nil {
		return err
	}
	for _, r := range b.routes {
		select {
		case <-r.ready:
		case <-b.done:
			return ErrStopped
		case <-ctx.Done():
			err := fmt.Errorf("bridge: start: route %q is not ready: %w", r.cfg.Name, context.Cause(ctx))
			_ = b.Stop(ctx)
			return err
		}
	}
	return nil
}

// Run runs the routes until ctx ends, and then stops, within Config.StopTimeout. A source or a sink that cannot be had is tried for
// as long. The error is that of Stop, ErrStarted or ErrStopped.
func (b *Bridge) Run(ctx context.Context) error {
	if err := b.begin(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-b.done:
		return nil
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.StopTimeout)
	defer cancel()
	return b.Stop(within)
}

func (b *Bridge) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		return ErrStopped
	case b.started:
		return ErrStarted
	}
	b.started = true
	go b.rep.run()
	go b.work()
	return nil
}

// work runs all routes to their end, and ends what they share.
func (b *Bridge) work() {
	var all sync.WaitGroup
	for _, r := range b.routes {
		all.Go(r.run)
	}
	all.Wait()
	b.closeSinks()
	b.rep.stop(closeTimeout)
	b.cut()
	close(b.done)
}

// Stop has the routes begin nothing more. What was handed to a sink is waited for, and the sources store their positions; what
// fails now is not tried again. Then the sinks are closed. If ctx ends first, what is under way is given up, and Stop returns an
// error at once: a source that keeps positions will bring it again. Further calls wait in the same way.
func (b *Bridge) Stop(ctx context.Context) error {
	b.mu.Lock()
	if !b.started && !b.stopped { // nothing has begun
		b.stopped = true
		b.mu.Unlock()
		b.stopping()
		b.closeSinks()
		b.cut()
		close(b.done)
		return nil
	}
	b.stopped = true
	b.mu.Unlock()
	b.stopping()
	select {
	case <-b.done:
		return nil
	default:
	}
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		b.cut()
		return fmt.Errorf("bridge: stop: cut off: %w", context.Cause(ctx))
	}
}

// Done is closed when the bridge has stopped and no goroutine of it is left, but one that OnError does not return to.
func (b *Bridge) Done() <-chan struct{} { return b.done }

// Stats returns the figures of all routes.
func (b *Bridge) Stats() Stats {
	st := Stats{Routes: make([]RouteStats, len(b.routes))}
	for i, r := range b.routes {
		st.Routes[i] = r.fig.stats(r.cfg.Name)
	}
	return st
}

// Check asks each sink that is a Checker whether it would work, and sends nothing. It names the routes whose sinks would not.
func (b *Bridge) Check(ctx context.Context) error {
	var all []error
	for _, r := range b.routes {
		sink, is := r.cfg.Sink.(Checker)
		if !is {
			continue
		}
		var targets []string
		if r.cfg.Target != "" && r.w.target.isFixed() {
			if target, err := r.w.target.render(nil, &Message{Route: r.cfg.Name}); err == nil {
				targets = append(targets, target)
			}
		}
		if err := guarded("the sink", func() error { return sink.Check(ctx, targets) }); err != nil {
			all = append(all, fmt.Errorf("bridge: route %q: %w", r.cfg.Name, err))
		}
	}
	return errors.Join(all...)
}

// closeTimeout is how long a sink may take to close.
const closeTimeout = 5 * time.Second

// closeSinks closes each sink once, all at the same time.
func (b *Bridge) closeSinks() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	closed := make(map[Sink]bool)
	var all sync.WaitGroup
	for _, r := range b.routes {
		sink := r.cfg.Sink
		if reflect.TypeOf(sink).Comparable() {
			if closed[sink] {
				continue
			}
			closed[sink] = true
		}
		all.Go(func() {
			if err := guarded("the sink", func() error { return sink.Close(ctx) }); err != nil {
				r.trouble(fmt.Errorf("close of the sink: %w", err))
			}
		})
	}
	all.Wait()
}
