package pghub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// Hub is a publish/subscribe hub over PostgreSQL LISTEN/NOTIFY; see the package comment for what it promises. All methods
// may be called from several goroutines at once and from inside a handler, in every state. The zero value is of no use:
// see [New].
type Hub struct {
	cfg        Config
	report     *reporter
	brake      brake
	delivery   *delivery
	router     *router
	supervisor *supervisor
	publisher  *publisher
	resyncs    chan struct{} // has room for as many as may run at a time; nil: no limit
	cluster    *clusterGate  // nil: no limit

	cut    context.Context // ends when the hub is cut off
	cutOff context.CancelFunc

	roster  *roster
	stopped chan struct{} // closed when everything has ended

	mu     sync.Mutex
	life   life
	guests []source.Guest
}

// life is where a hub stands in its life.
type life int

const (
	lifeIdle       life = iota
	lifePublishing      // of a Publisher: it is never started
	lifeRunning
	lifeStopping
	lifeStopped
)

// New makes a hub. It connects to nothing; the error says what is wrong with the configuration.
func New(cfg Config) (*Hub, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Hub{cfg: cfg, roster: newRoster(), stopped: make(chan struct{})}
	h.cut, h.cutOff = context.WithCancel(context.Background())
	h.report = newReporter(&h.cfg)
	h.delivery = newDelivery(h.nameSlow)
	h.router = newRouter(h.report, h.delivery, &h.brake)
	var src source.Source = &listener{&h.cfg, h.report}
	if cfg.PollOnly {
		src = silence{}
	}
	h.supervisor = newSupervisor(&h.cfg, src, h.router, h.report)
	if cfg.ResyncLimit > 0 {
		h.resyncs = make(chan struct{}, cfg.ResyncLimit)
	}
	if cfg.ResyncClusterLimit > 0 {
		h.cluster = newClusterGate(&h.cfg)
	}
	if cfg.Pool != nil {
		h.publisher = newPublisher(h.cut, pooled{cfg.Pool}, cfg.PublishTimeout, h.report)
	}
	return h, nil
}

// Start connects and returns once everything that consumers are subscribed to is in effect. It makes one attempt: if the
// server cannot be had, refuses, is a standby (ErrStandby), is behind a pooler that swallows notifications (ErrPooler),
// refuses a topic (*[ListenError]), or ctx ends first, the error says so and the hub is stopped. Once it has returned nil
// ctx has no further effect, and a lost connection is made again for as long as the hub is not stopped.
//
// A second call returns ErrStarted, one after Stop ErrStopped.
func (h *Hub) Start(ctx context.Context) error { return h.start(ctx, false) }

// Run starts the hub, however long the server is away, blocks until ctx ends, and stops gracefully within
// Config.StopTimeout: made for an errgroup. It returns nil after a graceful stop, by Stop as well, and otherwise why
// there was none: before the first connection an error that waiting does not mend (wrong password, no such database,
// no privilege, ErrPooler, a *[ListenError]), later that something had to be cut off.
func (h *Hub) Run(ctx context.Context) error {
	err := h.start(ctx, true)
	switch {
	case errors.Is(err, errStoppedEarly):
		return nil
	case err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())):
		return err
	}
	select {
	case <-ctx.Done():
	case <-h.stopped:
		return nil
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.StopTimeout)
	defer cancel()
	return h.Stop(stopCtx)
}

var errStoppedEarly = fmt.Errorf("%w before it came to listen", ErrStopped)

func (h *Hub) start(ctx context.Context, patient bool) error {
	h.mu.Lock()
	switch h.life {
	case lifeRunning:
		h.mu.Unlock()
		return fmt.Errorf("pghub: start: %w", ErrStarted)
	case lifeStopping, lifeStopped:
		h.mu.Unlock()
		return fmt.Errorf("pghub: start: %w", ErrStopped)
	}
	h.life = lifeRunning
	h.router.start()
	go h.supervisor.run(patient)
	h.mu.Unlock()

	var err error
	select {
	case <-h.supervisor.started:
		switch err = h.supervisor.err; {
		case err == nil && (patient || ctx.Err() == nil):
			return nil
		case err == nil: // the server was quick
			err = ctx.Err()
		case h.isStopping():
			err = errStoppedEarly
		}
	case <-ctx.Done():
		if patient {
			return ctx.Err() // Run stops the hub gracefully, wherever it has come to by now
		}
		h.supervisor.cancel()
		<-h.supervisor.started
		err = ctx.Err()
		if cause := h.supervisor.err; cause != nil && cause != ErrStopped {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	h.beginStop(err)
	h.cutOff()
	select { // what is left to end are handlers
	case <-h.stopped:
	case <-time.After(h.cfg.StopTimeout):
	}
	return fmt.Errorf("pghub: start: %w", err)
}

// Stop ends the hub: no new Notify, Subscribe or Consumer is accepted (ErrStopped), Notify calls under way are answered,
// what was committed before is received, what is queued is delivered, and every consumer gets a stop advisory as its last
// event. It returns when all handlers have returned from that.
//
// If ctx ends first the rest is cut off: queues are discarded, the handlers' contexts end, Notify calls get
// ErrUnknownOutcome, or ErrNotConnected where nothing was sent yet; the error says so and wraps that of ctx. A handler that ignores the end of its context keeps its
// goroutine until it returns, and gets its stop advisory then.
//
// Further calls wait in the same way; once the hub has stopped they return nil at once. Before Start, Stop ends the hub
// too. Given a handler's own context, or called by the body of a loop over Events, Stop does not wait for that handler
// or loop, and not for other handlers that are themselves waiting in Stop or Drain; given that of a durable consumer's handler, it
// does not wait at all: see Done.
func (h *Hub) Stop(ctx context.Context) error {
	h.beginStop(nil)
	if source.CallerOf(ctx).Host == (host{h}) {
		return nil // the handler of a guest, which ends before the hub does
	}
	ended := h.stopped
	for _, c := range h.calling(ctx) {
		defer h.roster.waitForAll(c)()
		ended = h.roster.quiet
	}
	select {
	case <-ended:
		return nil
	default:
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		h.cutOff()
		return fmt.Errorf("pghub: stop: cut off: %w", ctx.Err())
	}
}

// beginStop starts the end, once. cause is why, if it is not by wish.
func (h *Hub) beginStop(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life >= lifeStopping {
		return
	}
	started := h.life == lifeRunning
	h.life = lifeStopping
	h.roster.end()
	go h.shutDown(started, cause)
}

// shutDown ends one part after another, so that each finds its way out through the next.
func (h *Hub) shutDown(started bool, cause error) {
	h.report.log(slog.LevelInfo, "stopping", "pghub: stopping")
	if h.publisher != nil {
		h.publisher.close(h.cut)
	}
	h.stopGuests(h.cut)
	if started {
		h.supervisor.stop(h.cut)
	}
	final := newAdvisory(Advisory{Action: ActionStop, Final: true, Err: cause})
	left := h.router.stop()
	for _, c := range left {
		c.seal(final, false)
	}
	abort := context.AfterFunc(h.cut, func() {
		for _, c := range left {
			c.abort(final)
		}
	})
	for _, c := range left {
		<-c.done
	}
	abort()
	h.report.log(slog.LevelInfo, "stopped", "pghub: stopped")
	h.report.wait(h.cfg.StopTimeout)

	h.mu.Lock()
	h.life = lifeStopped
	h.mu.Unlock()
	close(h.stopped)
	h.cutOff()
}

func (h *Hub) isStopping() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life >= lifeStopping
}

// calling returns the consumers whose handler, or loop, calls with ctx.
func (h *Hub) calling(ctx context.Context) []*Consumer {
	calling := h.roster.loopsHere()
	if c := ConsumerFrom(ctx); c != nil && c.hub == h {
		calling = append(calling, c)
	}
	return calling
}

// retire counts a consumer out that has had its last event.
func (h *Hub) retire(c *Consumer) {
	c.cancel()
	c.resyncing.stop()
	h.router.forget(c)
	h.roster.leave(c)
}

// Done is closed when the hub has stopped: every handler has had its last event, and nothing of the hub runs any more but
// what does not return when it is told to: a hook or a tracer of the pool, a DialFunc, OnError.
func (h *Hub) Done() <-chan struct{} { return h.stopped }

// Name returns Config.Name.
func (h *Hub) Name() string { return h.cfg.Name }

// State says what the hub is doing.
func (h *Hub) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.life {
	case lifeIdle, lifePublishing:
		return StateIdle
	case lifeStopping:
		return StateStopping
	case lifeStopped:
		return StateStopped
	}
	return h.supervisor.currentState()
}

// Consumer makes a consumer that calls handler with its events. The configuration may be nil.
//
// Before Start it returns at once; its stream begins with a connect advisory and one subscribe advisory for each topic.
// Afterwards it returns, like Subscribe, once the topics of the configuration are in effect. ctx bounds that wait, which an
// outage can make long, and nothing else: if it ends first there is no consumer. Errors are those of Subscribe.
func (h *Hub) Consumer(ctx context.Context, handler Handler, cfg *ConsumerConfig) (*Consumer, error) {
	if handler == nil {
		return nil, errors.New("pghub: consumer: the handler is nil")
	}
	return h.consumer(ctx, handler, cfg, nil, nil)
}

func (h *Hub) consumer(ctx context.Context, handler Handler, cfg *ConsumerConfig, l *loop, held *linger) (*Consumer, error) {
	if cfg == nil {
		cfg = &ConsumerConfig{}
	}
	full, err := cfg.withDefaults(&h.cfg)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pghub: consumer: %w", err)
	}
	c := newConsumer(h, handler, full)
	c.loop, c.linger = l, held
	if err := h.roster.enter(c); err != nil {
		c.cancel()
		return nil, fmt.Errorf("pghub: consumer: %w", err)
	}
	if err := h.router.add(c); err != nil {
		h.retire(c)
		return nil, fmt.Errorf("pghub: consumer: %w", err)
	}
	c.resyncEvery()
	if err := c.Subscribe(ctx, full.Topics...); err != nil {
		if l == nil {
			_ = c.Close() // never fails
		} else {
			c.leaveLoop()
		}
		return nil, err
	}
	return c, nil
}

// nameSlow logs that a handler has been busy with one event for long.
func (h *Hub) nameSlow(call slowCall) {
	h.report.log(slog.LevelWarn, "slow", "pghub: a handler is slow", "consumer", call.c.describe(), "topic", call.topic, "busy", call.busy, "queued", call.waiting)
}
