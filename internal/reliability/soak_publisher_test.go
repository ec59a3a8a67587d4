package reliability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub"
)

// soakPublisher publishes the events of one source, one statement after another, and keeps the ledger.
type soakPublisher struct {
	soak   *soak
	source int
	done   chan struct{}

	mu     sync.Mutex
	ledger ledger
}

// begun is the number of the last event that has been begun.
func (p *soakPublisher) begun() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ledger)
}

// begin enters n events into the ledger and returns their topics and payloads.
func (p *soakPublisher) begin(n int, rng *rand.Rand) (first int, topics, payloads []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.soak.all()
	first = len(p.ledger)
	topic, same := all[rng.IntN(len(all))], rng.IntN(2) == 0 // some bursts are of one topic
	for i := range n {
		if !same {
			topic = all[rng.IntN(len(all))]
		}
		topics = append(topics, topic)
		payloads = append(payloads, fmt.Sprintf("e%d,%d", p.source, first+i+1))
		p.ledger = append(p.ledger, sending{topic: topic, started: p.soak.now()})
	}
	return first, topics, payloads
}

// end enters the outcome of all events since first.
func (p *soakPublisher) end(first int, f fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.soak.now()
	for i := first; i < len(p.ledger); i++ {
		p.ledger[i].ended, p.ledger[i].fate = at, f
	}
}

// publish starts the publishers: source 0 publishes on a direct connection, the others by Notify of the hubs.
func (s *soak) publish(ctx context.Context, t *testing.T) {
	direct := s.newPublisher()
	go direct.direct(ctx, s.dsn("disable"))
	for _, h := range s.hubs {
		for range 2 {
			p := s.newPublisher()
			go p.notify(ctx, t, h.hub)
		}
	}
}

func (s *soak) newPublisher() *soakPublisher {
	p := &soakPublisher{soak: s, source: len(s.publishers), done: make(chan struct{})}
	s.publishers = append(s.publishers, p)
	return p
}

// direct publishes at the rate of the flag, in statements of as many events as are due.
func (p *soakPublisher) direct(ctx context.Context, dsn string) {
	defer close(p.done)
	const most = 100 // events a statement
	rng := rand.New(rand.NewPCG(uint64(p.source), 1))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var conn *pgx.Conn
	for last := p.soak.now(); ctx.Err() == nil; {
		now := p.soak.now()
		due := int((now - last).Seconds() * float64(*soakRate))
		if due == 0 {
			<-tick.C
			continue
		}
		last = now
		if conn == nil {
			if conn = p.connect(ctx, dsn); conn == nil {
				break
			}
		}
		if p.send(conn, min(due, most), rng) == unknown {
			_ = conn.Close(context.Background()) // it is broken
			p.awaitEnd(ctx, dsn, conn.PgConn().PID())
			conn = nil
		}
	}
	if conn != nil {
		_ = conn.Close(context.Background()) // its work is done
	}
}

func (p *soakPublisher) send(conn *pgx.Conn, n int, rng *rand.Rand) fate {
	first, topics, payloads := p.begin(n, rng)
	// Not the context of the run: a cancelled statement would be one of unknown fate.
	_, err := conn.Exec(context.Background(), `SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p)`, topics, payloads)
	outcome := unknown
	if err == nil {
		outcome = committed
	}
	p.end(first, outcome)
	return outcome
}

// connect connects as soon as the server lets it in. nil: ctx has ended.
func (p *soakPublisher) connect(ctx context.Context, dsn string) *pgx.Conn {
	for {
		limit, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := pgx.Connect(limit, dsn)
		cancel()
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// awaitEnd waits until the server process of a broken connection is gone: it might still commit, out of turn.
func (p *soakPublisher) awaitEnd(ctx context.Context, dsn string, pid uint32) {
	for ctx.Err() == nil {
		conn := p.connect(ctx, dsn)
		if conn == nil {
			return
		}
		var running bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND pid <> pg_backend_pid())`, pid).Scan(&running)
		_ = conn.Close(context.Background()) // all has been said
		if err == nil && !running {
			return
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// notify publishes through a hub, with contexts that sometimes end too early, and takes the hub's word for what became
// of each event.
func (p *soakPublisher) notify(ctx context.Context, t *testing.T, hub *pghub.Hub) {
	defer close(p.done)
	rng := rand.New(rand.NewPCG(uint64(p.source), 1))
	for ctx.Err() == nil {
		limit, cancel := context.WithTimeout(context.Background(), time.Duration(5+rng.IntN(1000))*time.Millisecond)
		first, topics, _ := p.begin(1, rng)
		err := hub.Notify(limit, topics[0], []int64{int64(p.source), int64(first + 1)}, nil)
		cancel()
		p.end(first, p.fateOf(t, err))
		pause(ctx, time.Duration(rng.IntN(10))*time.Millisecond)
	}
}

// fateOf is what the answer of Notify promises.
func (p *soakPublisher) fateOf(t *testing.T, err error) fate {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return committed
	case errors.Is(err, pghub.ErrUnknownOutcome):
		return unknown
	case errors.Is(err, pghub.ErrNotConnected), errors.As(err, &pgErr), errors.Is(err, context.DeadlineExceeded):
		return unsent
	}
	t.Errorf("Notify answers with an error that it does not announce: %v", err)
	return unknown
}
