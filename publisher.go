package pghub

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// publisher sends notifications in batches: what arrives while a statement is under way goes together in the next one,
// and each caller gets its own answer. There is one statement at a time, since NOTIFY takes a lock of the whole cluster
// at commit, and more connections make it slower. Nobody lingers to let a batch grow.
//
// A caller who finds nobody else there sends its event itself. All others put theirs into the last batch that waits; run
// takes that batch, sends it, and answers all of its calls at once. run has a goroutine that exists only while something is
// to be sent: so a caller whose context ends simply leaves.
type publisher struct {
	pool    publishPool
	timeout time.Duration // of a statement
	report  *reporter
	limit   limit

	noConnection, noAnswer error // the causes of time-outs

	events, batches, failures atomic.Uint64

	misses int           // attempts in a row that got no connection; owned by whoever sends
	silent time.Duration // time-outs since the last answer; owned by whoever sends

	mu        sync.Mutex
	waiting   []*batch // in the order of arrival; calls join the last one
	busy      bool     // somebody sends: a caller, or run
	crowded   bool     // the last batch had several callers
	acquiring bool     // run waits for a connection
	closed    bool
	idle      chan struct{} // closed when closed and not busy
}

// publishPool is what the publisher needs of a pool.
type publishPool interface {
	acquire(ctx context.Context) (publishConn, error)
	// resetIdle closes all connections, those in use when they are given back, if some of them are idle.
	resetIdle()
	// reset closes all connections.
	reset()
}

// publishConn is what the publisher needs of a connection.
type publishConn interface {
	notify(ctx context.Context, calls []*call) error // in one statement
	release()
}

// call is a call of Notify.
type call struct {
	notification
	pad  func(payload string, n int) string // tells equal payloads of a batch apart; nil: cannot be done
	ctx  context.Context                    // of the caller
	left bool                               // the caller has left before it was sent; publisher.mu
	err  error                              // the outcome: to be read when the batch is done
}

type notification struct{ topic, payload string }

func newPublisher(cut context.Context, pool publishPool, timeout time.Duration, report *reporter) *publisher {
	p := &publisher{
		pool: pool, timeout: timeout, report: report, idle: make(chan struct{}),
		noConnection: fmt.Errorf("no connection of the pool within %v: %w", timeout/2, context.DeadlineExceeded),
		noAnswer:     fmt.Errorf("no answer within %v: %w", timeout, context.DeadlineExceeded),
	}
	context.AfterFunc(cut, p.cutOff)
	return p
}

// publish returns when the notification has been committed, or why not.
func (p *publisher) publish(ctx context.Context, n notification, pad func(string, int) string) error {
	c := &call{notification: n, pad: pad, ctx: ctx, err: errUndecided}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrStopped
	}
	if !p.busy && !p.crowded {
		p.busy = true
		p.mu.Unlock()
		return p.publishAlone(c)
	}
	b := p.joinLocked(c)
	if !p.busy {
		p.busy = true
		go p.run()
	}
	p.mu.Unlock()

	select {
	case <-b.done:
		return c.err
	case <-ctx.Done():
		return p.leave(b, c)
	}
}

// publishAlone sends what one caller has, on its own goroutine: to wake another one would cost it a third of its time. The
// statement ends with the caller's context; and those who come meanwhile have the next one.
func (p *publisher) publishAlone(c *call) error {
	calls := []*call{c}
	defer p.handOver()
	defer p.countEnded(calls)
	ctx, end := p.limit.begin(c.ctx)
	defer end()
	conn, err := p.acquire(ctx)
	if err != nil {
		p.settle(calls, false, err)
		return c.err
	}
	defer p.release(conn)
	p.settle(calls, true, p.send(ctx, conn, calls))
	return c.err
}

// handOver lets run go on with those who came meanwhile.
func (p *publisher) handOver() {
	if p.more() {
		go p.run()
	}
}

// joinLocked puts a call into the last batch that waits, or into a new one where it does not fit.
func (p *publisher) joinLocked(c *call) *batch {
	if n := len(p.waiting); n > 0 && p.waiting[n-1].add(c) {
		return p.waiting[n-1]
	}
	b := newBatch(c)
	p.waiting = append(p.waiting, b)
	return b
}

// leave ends the wait of a caller whose context has ended.
func (p *publisher) leave(b *batch, c *call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-b.done: // just now
		return c.err
	default:
	}
	if b.taken {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, c.ctx.Err())
	}
	if b.remove(c); b.empty() {
		p.waiting = slices.DeleteFunc(p.waiting, func(other *batch) bool { return other == b })
	}
	if p.acquiring {
		return fmt.Errorf("%w: %w", ErrNotConnected, c.ctx.Err())
	}
	return fmt.Errorf("not sent: %w", c.ctx.Err())
}

// run sends one batch after another until none is left.
func (p *publisher) run() {
	finished := false
	defer func() {
		if !finished { // a hook or a tracer has ended this goroutine
			go p.run()
		}
	}()
	for p.more() {
		if p.sendNext(); p.isCrowded() {
			// Those who were answered just now often have more to send. To let them have their turn costs nothing, and
			// they make one full batch instead of two halves that take turns.
			runtime.Gosched()
		}
	}
	finished = true
}

var (
	errEnded     = thrown("a hook of the pool, or a tracer", nil)
	errUndecided = fmt.Errorf("%w: %w", ErrUnknownOutcome, errEnded) // the outcome of calls until there is another
)

// more reports whether a batch waits. If none does, nobody sends any more.
func (p *publisher) more() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acquiring = len(p.waiting) > 0; p.acquiring {
		return true
	}
	p.busy = false
	if p.closed {
		close(p.idle)
	}
	return false
}

// sendNext sends the batch that has waited longest, and answers it. It takes it only when it has a connection: until then
// callers can leave and know that nothing was sent.
func (p *publisher) sendNext() {
	var b *batch
	err := errEnded // if acquire does not return
	defer func() {
		if err != nil {
			if b = p.take(); b != nil {
				p.settle(b.calls, false, err)
				close(b.done)
			}
			if p.misses > 1 { // and a reset did not help: there is none for those behind it either
				p.fail(err)
			}
			return
		}
		if b == nil {
			return
		}
		p.countEnded(b.calls)
		close(b.done)
	}()
	ctx, end := p.limit.begin(context.Background())
	defer end()
	var conn publishConn
	if conn, err = p.acquire(ctx); err != nil {
		return
	}
	defer p.release(conn)
	if b = p.take(); b != nil {
		p.sendAll(ctx, conn, b.calls)
	}
}

// take takes the batch that has waited longest. nil: everybody has left.
func (p *publisher) take() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acquiring = false
	if len(p.waiting) == 0 {
		return nil
	}
	b := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	b.take()
	p.crowded = len(b.calls) > 1
	return b
}

func (p *publisher) isCrowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crowded
}

// close lets nobody in any more, and waits until everybody has been answered, or ctx ends.
func (p *publisher) close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		if !p.busy {
			close(p.idle)
		}
	}
	p.mu.Unlock()
	select {
	case <-p.idle:
	case <-ctx.Done():
	}
	p.limit.close()
}

// cutOff ends what is under way, and answers those who wait.
func (p *publisher) cutOff() {
	p.limit.cutOff()
	p.fail(errCutOff)
}

// fail answers all that wait: nothing of theirs was sent.
func (p *publisher) fail(err error) {
	for b := p.take(); b != nil; b = p.take() {
		p.settle(b.calls, false, err)
		close(b.done)
	}
}
