package gateway

import (
	"context"
	"errors"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// source is where a client can have events again.
type source interface {
	// read hands on what follows a mark, in order, until there is no more or add has no room. A *missing is its error where it does
	// not reach back. Topics with a floor are wanted from there on, if that is further.
	read(ctx context.Context, after pghub.Position, floors map[string]uint64, topics []string, add func(pghub.Position, item) bool) (all bool, err error)
	// has says whether events of a topic come from the source.
	has(topic string) bool
	// id is a mark as clients show it.
	id(at pghub.Position) string
}

// missing says that events after a mark cannot be had any more.
type missing struct {
	reason string         // expired, foreign or history
	until  pghub.Position // where it goes on
}

func (m *missing) Error() string { return "gateway: events are missing: " + m.reason }

// streamSource reads the stream.
type streamSource struct{ *past }

func (s streamSource) has(topic string) bool { return s.isLive(topic) }

func (s streamSource) id(at pghub.Position) string { return at.String() }

func (s streamSource) read(ctx context.Context, after pghub.Position, _ map[string]uint64, topics []string, add func(pghub.Position, item) bool) (all bool, err error) {
	select {
	case s.reading <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-s.reading }()
	for ev, err := range s.stream.Read(ctx, stream.At(after), topics...) {
		var gap *stream.GapError
		switch {
		case errors.As(err, &gap) && gap.Gap.Foreign: // what is kept may be what the client has: it goes on with what comes
			at, err := s.locate(ctx, stream.Latest)
			if err != nil {
				return false, err
			}
			return false, &missing{"foreign", at}
		case errors.As(err, &gap):
			return false, &missing{"expired", gap.Gap.Until}
		case err != nil:
			return false, err
		}
		position := ev.Record.Position
		message := withID(s.gateway.encoder.encode(ev), position.String())
		if !add(position, item{kind: kindEvent, topic: ev.Topic, data: message}) {
			return false, nil
		}
	}
	return true, nil
}

// sources are what there is.
func (p *past) sources() (all []source) {
	if p.stream != nil {
		all = append(all, streamSource{p})
	}
	if p.history != nil {
		all = append(all, historySource{p})
	}
	return all
}
