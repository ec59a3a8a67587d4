package stream

import "context"

// reader reads on from a position. While its page is handled it reads the one that follows.
type reader struct {
	pager  *pager
	topics []string // nil: all
	at     Position
	near   bool // its last page was the last one there was: others are likely to be at the same place

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
		r.readAhead(ctx)
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
