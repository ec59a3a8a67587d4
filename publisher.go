package pghub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// publisher sends notifications in batches: what arrives while a statement is under way goes together in the next one,
// and each caller gets its own answer. There is one statement at a time, since NOTIFY takes a lock of the whole cluster
// at commit and more connections make it slower; and nobody lingers to let a batch grow. It has no goroutine of its own:
// the caller that finds no statement under way runs the batch, and then passes the lead on to one that waits.
type publisher struct {
	send func(ctx context.Context, topics, payloads []string) error // one statement
	cut  context.Context                                            // ends when the hub is cut off

	events, batches, failures atomic.Uint64

	mu      sync.Mutex
	busy    bool           // somebody leads
	waiting []*publication // for the next batch, in the order of arrival
	closed  bool
	idle    chan struct{}        // closed when closed and not busy
	texts   map[notification]int // of the batch being gathered: the padding that its next equal would need

	cancel   context.CancelCauseFunc // ends the statement under way; nil: there is none
	deadline time.Time               // of the statement under way
	watch    *time.Timer             // on the deadline: one timer for all statements, which most of them never touch
	watching bool                    // it will look
}

type notification struct{ topic, payload string }

// publication is a call of Notify.
type publication struct {
	notification
	pad    func(payload string, n int) string // tells equal payloads of a batch apart; nil: cannot be done
	answer chan answer                        // with room for one; nil for one that leads at once
}

// answer is the outcome, or the request to lead the next batch.
type answer struct {
	lead bool
	err  error
}

const (
	maxBatchEvents = 1024
	maxBatchBytes  = 1 << 20
)

func newPublisher(cut context.Context, send func(ctx context.Context, topics, payloads []string) error) *publisher {
	p := &publisher{send: send, cut: cut, idle: make(chan struct{}), texts: make(map[notification]int)}
	context.AfterFunc(cut, p.cutOff)
	return p
}

// publish returns when the notification has been committed, or why not.
func (p *publisher) publish(ctx context.Context, n notification, pad func(string, int) string) error {
	pub := &publication{notification: n, pad: pad}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrStopped
	}
	lead := !p.busy
	p.busy = true
	if !lead {
		pub.answer = make(chan answer, 1)
		p.waiting = append(p.waiting, pub)
	}
	p.mu.Unlock()

	if !lead {
		select {
		case a := <-pub.answer:
			if !a.lead {
				return a.err
			}
		case <-ctx.Done():
			return p.leave(ctx, pub)
		}
	}
	return p.lead(ctx, pub)
}

// leave ends the wait of a caller whose context has ended.
func (p *publisher) leave(ctx context.Context, pub *publication) error {
	p.mu.Lock()
	if i := slices.Index(p.waiting, pub); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.mu.Unlock()
		return fmt.Errorf("not sent: %w", ctx.Err())
	}
	p.mu.Unlock()
	select {
	case a := <-pub.answer:
		if !a.lead {
			return a.err
		}
		p.passLead()
		return fmt.Errorf("not sent: %w", ctx.Err())
	default: // it is under way with a batch, or its answer is
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// lead runs a batch of own and all that can ride with it.
func (p *publisher) lead(ctx context.Context, own *publication) error {
	if err := ctx.Err(); err != nil {
		p.passLead()
		return fmt.Errorf("not sent: %w", err)
	}
	batch := p.gather(own)
	switch {
	case len(batch) == 1: // nobody else depends on ctx
		return p.run(ctx, batch)[0]
	case ctx.Done() == nil:
		return p.runForAll(batch)
	}
	// The caller may leave, the batch goes on for the others.
	outcome := make(chan error, 1)
	go func() { outcome <- p.runForAll(batch) }()
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// gather takes from those who wait whoever fits into a statement with own. PostgreSQL folds equal notifications of one
// transaction into one: the n-th equal one is padded, and one that cannot be stays for the next batch.
func (p *publisher) gather(own *publication) []*publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return []*publication{own}
	}
	clear(p.texts)
	p.texts[own.notification] = 1
	batch := make([]*publication, 1, min(1+len(p.waiting), maxBatchEvents))
	batch[0] = own
	size := len(own.payload)
	stay := p.waiting[:0]
	for i, pub := range p.waiting {
		if len(batch) == maxBatchEvents || size+len(pub.payload) > maxBatchBytes {
			stay = append(stay, p.waiting[i:]...)
			break
		}
		if !p.distinctLocked(pub) {
			stay = append(stay, pub)
			continue
		}
		size += len(pub.payload)
		batch = append(batch, pub)
	}
	clear(p.waiting[len(stay):])
	p.waiting = stay
	return batch
}

// distinctLocked makes a notification differ from all others of the batch.
func (p *publisher) distinctLocked(pub *publication) bool {
	n, equal := p.texts[pub.notification]
	if !equal {
		p.texts[pub.notification] = 1
		return true
	}
	if pub.pad == nil {
		return false
	}
	for ; ; n++ {
		padded := notification{pub.topic, pub.pad(pub.payload, n)}
		if len(padded.payload) > maxPayload {
			return false
		}
		if _, taken := p.texts[padded]; !taken {
			p.texts[pub.notification] = n + 1
			p.texts[padded] = 1
			pub.notification = padded
			return true
		}
	}
}

// runForAll runs a batch, answers everybody but its leader, and returns the leader's answer.
func (p *publisher) runForAll(batch []*publication) error {
	outcomes := p.run(context.Background(), batch)
	for i, pub := range batch[1:] {
		pub.answer <- answer{err: outcomes[i+1]}
	}
	return outcomes[0]
}

// run sends a batch, passes the lead on, and returns the outcome of each.
func (p *publisher) run(ctx context.Context, batch []*publication) []error {
	defer p.passLead()
	ctx, cancel := p.begin(ctx)
	defer cancel(nil)

	outcomes := make([]error, len(batch))
	topics, payloads := make([]string, len(batch)), make([]string, len(batch))
	for i, pub := range batch {
		topics[i], payloads[i] = pub.topic, pub.payload
	}
	err := p.send(ctx, topics, payloads)
	switch {
	case err != nil && len(batch) > 1 && refusesOne(err):
		// One of them is at fault, and none was committed.
		for i := range batch {
			outcomes[i] = p.note(ctx, 1, p.send(ctx, topics[i:i+1], payloads[i:i+1]))
		}
	default:
		err = p.note(ctx, len(batch), err)
		for i := range outcomes {
			outcomes[i] = err
		}
	}
	return outcomes
}

// begin makes the context of a statement, which ends with ctx, after publishTimeout, and when the hub is cut off.
func (p *publisher) begin(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel, p.deadline = cancel, time.Now().Add(publishTimeout)
	if p.cut.Err() != nil {
		cancel(errCutOff)
	}
	switch {
	case p.watching:
	case p.watch == nil:
		p.watch = time.AfterFunc(publishTimeout, p.look)
	default:
		p.watch.Reset(publishTimeout)
	}
	p.watching = true
	return ctx, cancel
}

// look ends a statement whose time is up.
func (p *publisher) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := time.Until(p.deadline)
	if p.watching = p.cancel != nil && left > 0; p.watching {
		p.watch.Reset(left)
	} else if p.cancel != nil {
		p.cancel(errNoAnswer)
	}
}

// Why a statement's context ended, other than by its caller.
var (
	errNoAnswer = fmt.Errorf("no answer within %v: %w", publishTimeout, context.DeadlineExceeded)
	errCutOff   = errors.New("the hub was cut off")
)

func (p *publisher) cutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel(errCutOff)
	}
}

// note counts the outcome of a statement and names it.
func (p *publisher) note(ctx context.Context, events int, err error) error {
	if err == nil {
		p.batches.Add(1)
		p.events.Add(uint64(events))
		return nil
	}
	p.failures.Add(uint64(events))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	var pgErr *pgconn.PgError
	var unsent *unsentError
	switch {
	case errors.As(err, &unsent), pgconn.SafeToRetry(err):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	case errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR":
		return err // rolled back
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// refusesOne tells an error about the data of one notification from one about all of them.
func refusesOne(err error) bool {
	var pgErr *pgconn.PgError
	const dataException = "22"
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" && len(pgErr.Code) == 5 && pgErr.Code[:2] == dataException
}

// passLead lets the one that has waited longest run the next batch.
func (p *publisher) passLead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = nil
	if len(p.waiting) > 0 {
		next := p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		next.answer <- answer{lead: true}
		return
	}
	p.busy = false
	if p.closed {
		close(p.idle)
	}
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil && p.cancel == nil {
		p.watch.Stop()
	}
}
