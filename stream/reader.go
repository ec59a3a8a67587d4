package stream

import "context"

// reader reads on from a position. While a page is handled it reads the one that follows, but not behind its first page: who leaves
// there, as many do, would leave a query under way, and a connection whose query is cancelled is of no use any more.
type reader struct {
	pager  *pager
	topics []string // nil: all
	at     Position
	near   bool // its last page was the last one there was: others are likely to be at the same place
	goesOn bool // it has come back for more than a page

	ahead  chan pageAhead     // gets the page behind at; nil: nobody reads it
	cancel context.CancelFunc // of who does
}

type pageAhead struct {
	page page
	err  error
}

func (r *reader) close() {
	if r.ahead != nil {
		r.cancel()
		<-r.ahead
	}
	p := r.pager
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, r)
	p.uniteLocked()
}

// next reads what follows. The reader's position goes on to the end of the page, but not where that is another server's. All calls
// have the same context, which ends what is read ahead.
func (r *reader) next(ctx context.Context) (page, error) {
	pg, err := r.read(ctx)
	if err != nil {
		return page{}, err
	}
	if pg.state == pageForeign {
		r.pager.forget()
	}
	r.near = pg.state == pageEnd
	if pg.state == pageMore || pg.state == pageEnd {
		r.at = pg.end
	}
	if pg.state == pageMore {
		if r.goesOn {
			r.readAhead(ctx)
		}
		r.goesOn = true
	}
	return pg, nil
}

func (r *reader) read(ctx context.Context) (page, error) {
	switch {
	case r.ahead != nil:
		result := <-r.ahead
		r.cancel()
		r.ahead = nil
		return result.page, result.err
	case r.near:
		return r.pager.share(ctx, r.at, r.topics)
	}
	return r.pager.read(ctx, r.at, r.topics)
}

func (r *reader) readAhead(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	after, ahead := r.at, make(chan pageAhead, 1)
	r.ahead = ahead
	go func() {
		pg, err := r.pager.read(ctx, after, r.topics)
		ahead <- pageAhead{pg, err}
	}()
}
