package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/source"
)

// Position is a place in the stream.
type Position = pghub.Position

// Errors to use with errors.Is. Those of package pghub come too: ErrStopped, ErrTopic, ErrValue, ErrNotConnected,
// ErrUnknownOutcome, ErrNoPool.
var (
	// ErrNotInstalled says that schema pghub is not in the database, or in a version without a stream: see sql.Install.
	ErrNotInstalled = errors.New("pghub/stream: schema pghub has no stream here: run sql.Install")

	// ErrEncoding says that the pool's connections do not speak UTF-8, which a stream's texts are in. The client_encoding of a
	// connection is the database's unless its connection string has client_encoding=UTF8.
	ErrEncoding = errors.New("pghub/stream: the pool's connections are not in UTF-8: add client_encoding=UTF8 to the connection string")

	// ErrFenced says that another process works for the consumer now.
	ErrFenced = errors.New("pghub/stream: another process works for the consumer")

	// ErrHalted says that a consumer has stopped at an event that it could not handle: DurableConfig.Poison is Halt.
	ErrHalted = errors.New("pghub/stream: halted at an event that cannot be handled")
)

// Config is what [Open] takes. The zero value is of use.
type Config struct {
	// Live are topics whose events ordinary consumers of the hub get too, as soon as they can be read.
	Live []string

	// Lease is for how long a process that has ended without a word keeps others from taking over its work: the sequencer's, and
	// that of durable consumers that do not say. 0: 10 s. At least 100 ms.
	Lease time.Duration

	// Retain is how long events are kept, at least; up to half as long again. 0: what pghub.configure set last; 72 hours if nobody
	// did. Else Open sets it, for all processes, which needs the right to administer.
	Retain time.Duration
}

const (
	defaultLease = 10 * time.Second
	minLease     = 100 * time.Millisecond
)

// Stream is a process's access to the stream of a database. All methods may be called from several goroutines at once. The
// zero value is of no use: see [Open].
type Stream struct {
	cfg   Config
	owner string // of leases
	host  source.Host
	db    *db
	bus   *bus
	pager *pager
	pub   *publisher
	link  *link

	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	tasks  sync.WaitGroup // everything that runs but for durable consumers

	made   atomic.Uint64 // durable consumers, to tell their leases apart
	halted atomic.Uint64 // of these
	opened chan struct{} // closed when Open is over: until then nobody else reads what is above
	ended  sync.Once
	done   chan struct{}

	mu       sync.Mutex
	stopping bool
	durables []*Durable
	accounts map[string]DurableStats // by name: sums over the durable consumers that have ended
}

// Open makes a stream for a hub, which may be started before or after. It connects to the database to see whether schema
// pghub is there (ErrNotInstalled, ErrEncoding) and starts to take part in the sequencer's work; ctx bounds that. The stream ends with
// the hub: first its durable consumers, which finish what is in hand and store their positions, within the context of Stop.
//
// The role of the pool needs the right to read the stream: SELECT pghub.allow('app', 'read').
func Open(ctx context.Context, hub *pghub.Hub, cfg Config) (*Stream, error) {
	switch {
	case cfg.Lease == 0:
		cfg.Lease = defaultLease
	case cfg.Lease < minLease:
		return nil, fmt.Errorf("pghub/stream: open: Lease is %v; at least %v", cfg.Lease, minLease)
	}
	if cfg.Retain < 0 {
		return nil, fmt.Errorf("pghub/stream: open: Retain is %v", cfg.Retain)
	}
	for _, topic := range cfg.Live {
		if err := checkTopic(topic); err != nil {
			return nil, fmt.Errorf("pghub/stream: open: Live: %w", err)
		}
	}
	cfg.Live = slices.Clone(cfg.Live)
	s := &Stream{cfg: cfg, owner: newOwner(), bus: newBus(), opened: make(chan struct{}), done: make(chan struct{}), accounts: make(map[string]DurableStats)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	host, err := hub.Attach((*guest)(s))
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("pghub/stream: open: %w", err)
	}
	defer close(s.opened)
	s.host = host
	s.db = &db{pool: host.Pool()}
	s.pager = newPager(s)
	s.pub = newPublisher(s.ctx, host)
	s.link = &link{s: s}
	start, err := s.prepare(ctx)
	if err == nil && s.ctx.Err() != nil {
		err = pghub.ErrStopped
	}
	if err != nil {
		s.end()
		return nil, fmt.Errorf("pghub/stream: open: %w", err)
	}
	s.tasks.Go(s.link.run)
	if len(cfg.Live) > 0 {
		s.tasks.Go(func() { s.feedLive(start) })
	}
	return s, nil
}

// newOwner names this process in leases: the host, the process, and something that no other stream has.
func newOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), strings.ToLower(rand.Text()[:10]))
}

// prepare looks whether the stream is there, configures it, and says where it is.
func (s *Stream) prepare(ctx context.Context) (now Position, err error) {
	var there bool
	var isolation, encoding string
	const sql = `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'pghub' AND c.relname = 'stream_consumers'), pg_catalog.current_setting('default_transaction_isolation'),
		pg_catalog.current_setting('client_encoding')`
	if err := s.db.row(ctx, []any{&there, &isolation, &encoding}, sql); err != nil {
		return now, err
	}
	switch {
	case !there:
		return now, ErrNotInstalled
	case encoding != "UTF8":
		return now, fmt.Errorf("%w (it is %s)", ErrEncoding, encoding)
	}
	s.db.explicit.Store(isolation != "read committed")
	if s.cfg.Retain != 0 {
		if err := s.db.exec(ctx, `SELECT pghub.configure(retain => $1)`, s.cfg.Retain); err != nil {
			return now, err
		}
	}
	return s.locate(ctx, Latest)
}

// guest is the stream as the hub sees it.
type guest Stream

// Topics are those that are fed.
func (g *guest) Topics() []string { return g.cfg.Live }

// Stop ends the stream, and has Open fail if it is not over yet.
func (g *guest) Stop(ctx context.Context) {
	select {
	case <-g.opened:
		(*Stream)(g).stop(ctx)
	case <-ctx.Done():
		g.cancel()
	}
}

// stop ends durable consumers gracefully until ctx ends, and then all the rest.
func (s *Stream) stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	durables := slices.Clone(s.durables) // each leaves the list when it has ended
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, d := range durables {
		all.Go(func() {
			if d.Stop(ctx) != nil {
				d.Close()
			}
		})
	}
	all.Wait()
	s.pub.close(ctx)
	s.end()
}

// end ends everything but durable consumers.
func (s *Stream) end() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
	s.tasks.Wait()
	s.ended.Do(func() { close(s.done) })
}

// LiveTopics are the topics of [Config].Live, in that order. The caller may change the slice.
func (s *Stream) LiveTopics() []string { return slices.Clone(s.cfg.Live) }

// Done is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.done }

// enlist registers a durable consumer, to be stopped with the stream.
func (s *Stream) enlist(d *Durable) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return pghub.ErrStopped
	}
	countIn(s.accounts, accountOf(s.accounts, d.name), DurableStats{}) // it keeps its account
	s.durables = append(s.durables, d)
	return nil
}

// delist takes a consumer out that has ended.
func (s *Stream) delist(d *Durable) {
	last := d.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	last.Working, last.InHand = false, 0
	countIn(s.accounts, accountOf(s.accounts, d.name), last)
	s.durables = slices.DeleteFunc(s.durables, func(other *Durable) bool { return other == d })
}

// trouble reports what no caller waits for.
func (s *Stream) trouble(cause string, err error) {
	s.host.Trouble("stream: "+cause, fmt.Errorf("pghub/stream: %w", err))
}

func (s *Stream) log(level slog.Level, cause, text string, attrs ...any) {
	s.host.Log(level, "stream: "+cause, "pghub/stream: "+text, attrs...)
}
