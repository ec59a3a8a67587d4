package stream

import (
	"github.com/pghub/pghub/internal/source"
)

// feedLive brings events of the live topics to the hub's consumers, from when the hub listens for the first time: those that
// follow the position where the stream was opened. What comes while a connection is lost is read when there is one again, so
// that nothing is missing.
func (s *Stream) feedLive(at Position) {
	select {
	case <-s.host.Listening():
	case <-s.ctx.Done():
		return
	}
	r := s.pager.open(at, s.cfg.Live)
	defer r.close()
	r.near = true
	failures := 0
	for {
		pg, err := r.next(s.ctx)
		if err == nil && pg.state == pageForeign {
			pg.end, err = s.locate(s.ctx, Latest) // where what is kept begins, nothing is news
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.trouble("live", err)
			if wait(s.ctx, s.host.Backoff(failures)) != nil {
				return
			}
			failures++
			continue
		case pg.state == pageExpired || pg.state == pageForeign:
			missed := &GapError{r.gap(pg)}
			s.trouble("live", missed)
			s.host.Missed(s.cfg.Live, missed)
			r.at = pg.end
			continue
		}
		failures = 0
		s.feed(pg)
		if pg.state != pageEnd {
			continue
		}
		select {
		case <-pg.tick:
		case <-s.ctx.Done():
			return
		}
	}
}

// feed brings a page to the hub.
func (s *Stream) feed(pg page) {
	messages := make([]source.Message, 0, len(pg.events))
	for _, ev := range pg.events {
		rec := ev.Record
		messages = append(messages, source.Message{
			Topic: []byte(ev.Topic), Payload: ev.Payload,
			Stored: &source.Stored{Tick: rec.Position.Tick, Txn: rec.Position.Txn, ID: rec.Position.ID, At: rec.Time, Headers: rec.Headers},
		})
	}
	const burst = 256 // of a time, so that the brake is asked in between
	for len(messages) > 0 {
		n := min(burst, len(messages))
		s.host.Feed(messages[:n])
		messages = messages[n:]
	}
}
