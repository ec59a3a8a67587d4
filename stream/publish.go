package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/source"
)

// Option is a choice for one event.
type Option func(*entry)

// WithHeaders gives an event headers: what is about it, and not in it, such as a trace.
func WithHeaders(headers map[string]string) Option {
	return func(e *entry) { e.headers = headers }
}

// entry is an event on its way into the log.
type entry struct {
	topic, key string
	value      *string
	headers    map[string]string
	header     *string

	done chan struct{}
	err  error
}

// Publish writes an event and returns when it is committed. Calls at the same time share a statement and its commit, and
// each gets its own answer. value is anything that encoding/json takes, a json.RawMessage as it is; nil: none. It may be
// as large as PostgreSQL allows.
//
// Errors: ErrTopic and ErrValue at once; the server's, if it refuses the event; ErrNotConnected if it was not written;
// ErrUnknownOutcome if it may have been, which is never tried again; ErrStopped. If ctx ends first the event may be
// written all the same, and the error is ErrUnknownOutcome, unless it was not on its way yet: then the error is ctx's, and it never
// will be. A hook of the pool that panics is ErrPanic and ErrUnknownOutcome.
func (s *Stream) Publish(ctx context.Context, topic string, key []int64, value any, options ...Option) error {
	e, err := newEntry(topic, key, value, options)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.pub.publish(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("pghub/stream: publish: %w", err)
	}
	return nil
}

// Tx is a transaction of the caller's: a pgx.Tx.
type Tx interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// PublishTx writes an event in a transaction of the caller's: it is there when that commits, and not if it does not. Publish
// after the change that the event is about: the order of the stream is that in which events were written.
func (s *Stream) PublishTx(ctx context.Context, tx Tx, topic string, key []int64, value any, options ...Option) error {
	e, err := newEntry(topic, key, value, options)
	if err == nil {
		_, err = tx.Exec(ctx, captureSQL, topic, key, e.value, e.header)
	}
	if err != nil {
		return fmt.Errorf("pghub/stream: publish: %w", err)
	}
	return nil
}

const (
	captureSQL    = `SELECT pghub.capture($1, $2, $3, $4)`
	captureAllSQL = `SELECT pghub.capture_all($1, $2, $3, $4)`
)

// newEntry checks and encodes an event.
func newEntry(topic string, key []int64, value any, options []Option) (*entry, error) {
	if err := checkTopic(topic); err != nil {
		return nil, err
	}
	e := &entry{topic: topic, key: "{" + string(appendKey(nil, key)) + "}", done: make(chan struct{})}
	for _, option := range options {
		option(e)
	}
	payload, err := pghub.KeyValueCodec{}.Append(nil, nil, value)
	if err != nil {
		return nil, err
	}
	if _, text, has := strings.Cut(string(payload), ":"); has {
		e.value = &text
	}
	if len(e.headers) > 0 {
		text, err := json.Marshal(e.headers)
		if err != nil {
			return nil, fmt.Errorf("%w: headers: %w", pghub.ErrValue, err)
		}
		header := string(text)
		e.header = &header
	}
	return e, nil
}

// publisher writes what comes while a statement is under way together in the next one.
type publisher struct {
	host source.Host
	ctx  context.Context // ends what is under way

	events, batches, failures atomic.Uint64

	mu      sync.Mutex
	waiting []*entry
	busy    bool
	closed  bool
	idle    chan struct{} // closed when closed and not busy
}

// A batch has at most so many events, and bytes unless one has more.
const (
	batchEvents = 1000
	batchBytes  = 4 << 20
)

func newPublisher(ctx context.Context, host source.Host) *publisher {
	return &publisher{host: host, ctx: ctx, idle: make(chan struct{})}
}

func (p *publisher) publish(ctx context.Context, e *entry) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return pghub.ErrStopped
	}
	p.waiting = append(p.waiting, e)
	if !p.busy {
		p.busy = true
		go p.run()
	}
	p.mu.Unlock()
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		return p.leave(e, ctx.Err())
	}
}

// leave ends the wait of a caller whose context has ended.
func (p *publisher) leave(e *entry, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, e); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return fmt.Errorf("not sent: %w", cause)
	}
	select {
	case <-e.done: // just now
		return e.err
	default:
		return fmt.Errorf("%w: %w", pghub.ErrUnknownOutcome, cause)
	}
}

// run writes one batch after another until none is left.
func (p *publisher) run() {
	for {
		batch := p.next()
		if batch == nil {
			return
		}
		p.write(batch)
	}
}

// next takes what waits, up to the size of a batch. nil: nothing does, and nobody writes any more.
func (p *publisher) next() (batch []*entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, size := 0, 0
	for n < min(len(p.waiting), batchEvents) && (n == 0 || size < batchBytes) {
		if v := p.waiting[n].value; v != nil {
			size += len(*v)
		}
		n++
	}
	if n == 0 {
		p.busy = false
		if p.closed {
			close(p.idle)
		}
		return nil
	}
	batch = slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	return batch
}

// write commits a batch and answers its callers.
func (p *publisher) write(batch []*entry) {
	err := guarded("a hook of the pool, or a tracer", func() error { return p.commit(batch) })
	if errors.Is(err, pghub.ErrPanic) {
		err = fmt.Errorf("%w: %w", pghub.ErrUnknownOutcome, err)
	}
	if len(batch) > 1 && isRefused(err) { // one of them is at fault, and the server does not say which
		half := len(batch) / 2
		p.write(batch[:half])
		p.write(batch[half:])
		return
	}
	if err == nil {
		p.batches.Add(1)
		p.events.Add(uint64(len(batch)))
	} else {
		p.failures.Add(uint64(len(batch)))
	}
	for _, e := range batch {
		e.err = err
		close(e.done)
	}
}

// isRefused reports that the server refused a statement for what it has, and that nothing of it is committed.
func isRefused(err error) bool {
	var pgErr *pgconn.PgError
	const dataException, programLimit = "22", "54"
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" && len(pgErr.Code) == 5 &&
		(pgErr.Code[:2] == dataException || pgErr.Code[:2] == programLimit)
}

func (p *publisher) commit(batch []*entry) error {
	timeout := p.host.PublishTimeout()
	for _, e := range batch {
		if e.value != nil {
			timeout += time.Duration(len(*e.value)>>20) * time.Second // what is large takes its time
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, timeout+timeout/2)
	defer cancel()
	soon, cancelSoon := context.WithTimeout(ctx, p.host.PublishTimeout()/2)
	conn, err := p.host.Pool().Acquire(soon)
	cancelSoon()
	if err != nil {
		return fmt.Errorf("%w: %w", pghub.ErrNotConnected, err)
	}
	defer conn.Release()
	err = insert(ctx, conn, batch)
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR":
		return err
	case pgconn.SafeToRetry(err):
		return fmt.Errorf("%w: %w", pghub.ErrNotConnected, err)
	}
	return fmt.Errorf("%w: %w", pghub.ErrUnknownOutcome, err)
}

func insert(ctx context.Context, conn *pgxpool.Conn, batch []*entry) error {
	topics, keys := make([]string, len(batch)), make([]string, len(batch))
	values, headers := make([]*string, len(batch)), make([]*string, len(batch))
	for i, e := range batch {
		topics[i], keys[i], values[i], headers[i] = e.topic, e.key, e.value, e.header
	}
	_, err := conn.Exec(ctx, captureAllSQL, topics, keys, values, headers)
	return err
}

// close takes nothing more, and waits until what was taken is written, or ctx ends.
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

var _ Tx = pgx.Tx(nil)
