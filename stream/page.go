package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pghub/pghub"
)

// page is what one query reads: events in their order, and how far it goes.
type page struct {
	events []*pghub.Event
	end    Position
	state  pageState
	at     time.Time       // of end's tick
	tick   <-chan struct{} // closed at the first tick since it was read: a page that others have read may be older than it seems
}

// pageState is what follows a page.
type pageState string

const (
	pageMore    pageState = "more"
	pageEnd     pageState = "end"     // nothing, until the next tick
	pageExpired pageState = "expired" // the position is older than what is kept; end is where that begins
	pageForeign pageState = "foreign" // the position is of another server, or another time; so is end
)

// pager reads pages. Readers that are at the same place share what one of them reads: consumers that have caught up cost the
// server as much as one does.
type pager struct {
	s *Stream

	mu      sync.Mutex
	readers map[*reader]struct{}
	topics  []string // of all readers; nil: all
	recent  []*shared
}

// shared is a page that several readers may want. It is ready when done is closed.
type shared struct {
	after  Position
	topics []string
	done   chan struct{}
	page   page
	err    error
}

// recentPages is how many pages are kept for readers that come a little later.
const recentPages = 4

func newPager(s *Stream) *pager {
	return &pager{s: s, readers: make(map[*reader]struct{})}
}

// open registers a reader. It has to be closed.
func (p *pager) open(at Position, topics []string) *reader {
	r := &reader{pager: p, at: at, topics: topics}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[r] = struct{}{}
	p.uniteLocked()
	return r
}

// uniteLocked finds what a page has to have that all readers share.
func (p *pager) uniteLocked() {
	p.topics = []string{}
	for r := range p.readers {
		if r.topics == nil {
			p.topics = nil
			break
		}
		p.topics = append(p.topics, r.topics...)
	}
	slices.Sort(p.topics)
	p.topics = slices.Compact(p.topics)
	if len(p.readers) == 0 {
		p.recent = nil
	}
}

// share reads a page together with whoever wants the same one.
func (p *pager) share(ctx context.Context, after Position, topics []string) (page, error) {
	p.mu.Lock()
	union := p.topics
	i := slices.IndexFunc(p.recent, func(s *shared) bool {
		return s.after == after && (s.topics == nil || union != nil && slices.Equal(s.topics, union)) && !s.isUseless()
	})
	var s *shared
	if i >= 0 {
		s = p.recent[i]
		p.mu.Unlock()
		select {
		case <-s.done:
		case <-ctx.Done():
			return page{}, ctx.Err()
		}
		if s.err != nil {
			return p.read(ctx, after, topics) // it may have been the other one's context
		}
	} else {
		s = &shared{after: after, topics: union, done: make(chan struct{})}
		if p.recent = append(p.recent, s); len(p.recent) > recentPages {
			p.recent = slices.Delete(p.recent, 0, 1)
		}
		p.mu.Unlock()
		s.page, s.err = p.read(ctx, after, union)
		close(s.done)
		if s.err != nil {
			return page{}, s.err
		}
	}
	return s.page.only(topics), nil
}

// isUseless reports that a page is there and has nothing, or could not be read: what it would say may not be so any more.
func (s *shared) isUseless() bool {
	select {
	case <-s.done:
		return s.err != nil || s.page.end == s.after
	default:
		return false
	}
}

// forget drops pages that were read before the server was set back.
func (p *pager) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = nil
}

// only is the page without the events of other topics.
func (p page) only(topics []string) page {
	if topics == nil {
		return p
	}
	p.events = slices.DeleteFunc(slices.Clone(p.events), func(ev *pghub.Event) bool { return !slices.Contains(topics, ev.Topic) })
	return p
}

// read asks the server for a page.
func (p *pager) read(ctx context.Context, after Position, topics []string) (pg page, err error) {
	tick := p.s.bus.nextTick()
	defer func() { pg.tick = tick }()
	err = p.s.db.do(ctx, func(c conn) error {
		pg, err = readPage(ctx, c, after, topics)
		return err
	})
	return pg, err
}

func readPage(ctx context.Context, c conn, after Position, topics []string) (pg page, err error) {
	const sql = `SELECT tick, txn, id, topic, key, value, headers, at FROM pghub.page($1, $2, $3, $4)`
	rows, err := c.Query(ctx, sql, after.Tick, after.Txn, after.ID, topics)
	if err != nil {
		return page{}, err
	}
	defer rows.Close()
	var r row
	for rows.Next() {
		if err := r.scan(rows); err != nil {
			return page{}, err
		}
		if !r.isEvent {
			pg.end, pg.state, pg.at = r.at, pageState(r.value), r.when
			continue
		}
		pg.events = append(pg.events, r.event())
	}
	if err := rows.Err(); err != nil {
		return page{}, err
	}
	if pg.state == "" {
		return page{}, fmt.Errorf("a page without an end")
	}
	return pg, nil
}

// headersOf reads headers. What is not text is left as its JSON.
func headersOf(text []byte) map[string]string {
	if len(text) == 0 {
		return nil
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(text, &raw) != nil || len(raw) == 0 {
		return nil
	}
	headers := make(map[string]string, len(raw))
	for name, value := range raw {
		var s string
		if json.Unmarshal(value, &s) != nil || value[0] != '"' {
			s = string(value)
		}
		headers[name] = s
	}
	return headers
}
