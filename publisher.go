package pghub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
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
}

type notification struct{ topic, payload string }

// publication is a call of Notify.
type publication struct {
	notification
	pad    func(payload string, n int) string // tells equal payloads of a batch apart; nil: cannot be done
	answer chan answer                        // with room for one
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
	return &publisher{send: send, cut: cut, idle: make(chan struct{}), texts: make(map[notification]int)}
}

// publish returns when the notification has been committed, or why not.
func (p *publisher) publish(ctx context.Context, n notification, pad func(string, int) string) error {
	pub := &publication{notification: n, pad: pad, answer: make(chan answer, 1)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrStopped
	}
	lead := !p.busy
	p.busy = true
	if !lead {
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
	go func() { own.answer <- answer{err: p.runForAll(batch)} }()
	select {
	case a := <-own.answer:
		return a.err
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
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	defer context.AfterFunc(p.cut, cancel)()

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
			outcomes[i] = p.note(1, p.send(ctx, topics[i:i+1], payloads[i:i+1]))
		}
	default:
		err = p.note(len(batch), err)
		for i := range outcomes {
			outcomes[i] = err
		}
	}
	return outcomes
}

// note counts the outcome of a statement and names it.
func (p *publisher) note(events int, err error) error {
	if err == nil {
		p.batches.Add(1)
		p.events.Add(uint64(events))
		return nil
	}
	p.failures.Add(uint64(events))
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
}

// unsentError is an error from before anything was sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// sendThrough sends statements through a connection of the pool, in whatever query mode the pool is configured for.
func sendThrough(pool *pgxpool.Pool) func(ctx context.Context, topics, payloads []string) error {
	return func(ctx context.Context, topics, payloads []string) error {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return &unsentError{err}
		}
		defer conn.Release()
		switch utf8 := takesUTF8(conn.Conn()); {
		case utf8 && len(topics) == 1:
			_, err = conn.Exec(ctx, notifySQL, topics[0], payloads[0])
		case utf8:
			_, err = conn.Exec(ctx, notifyManySQL, topics, payloads)
		default:
			_, err = conn.Exec(ctx, notifyConvertedSQL, inBytes(topics...), inBytes(payloads...))
		}
		return err
	}
}

const (
	notifySQL          = `SELECT pg_notify($1, $2)`
	notifyManySQL      = `SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p)`
	notifyConvertedSQL = `SELECT count(pg_notify(convert_from(t, 'UTF8'), convert_from(p, 'UTF8'))) FROM unnest($1::bytea[], $2::bytea[]) AS n(t, p)`
)

// takesUTF8 tells whether the server takes text on a connection as UTF-8. Unless told otherwise, it takes it to be in the
// encoding of the database, and turns é into Ã© where that is LATIN1.
func takesUTF8(conn *pgx.Conn) bool {
	encoding := conn.PgConn().ParameterStatus("client_encoding")
	return encoding == "UTF8" || encoding == "" // a pooler may not say
}

func inBytes(texts ...string) [][]byte {
	b := make([][]byte, len(texts))
	for i, text := range texts {
		b[i] = []byte(text)
	}
	return b
}
