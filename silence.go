package pghub

import (
	"context"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// silence is the source of a hub that does not listen: see Config.PollOnly. Everything is in effect at once, and nothing comes.
type silence struct{}

// Open never fails.
func (silence) Open(context.Context) (source.Session, error) { return silence{}, nil }

// Run acknowledges what the sink wants until ctx ends.
func (silence) Run(ctx context.Context, sink source.Sink) error {
	wake := make(chan struct{}, 1)
	sink.Attach(wake)
	for {
		if changes, unannounced := sink.Changes(); len(changes) > 0 || unannounced {
			if err := sink.Acknowledge(changes, nil); err != nil {
				return err
			}
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ErrStopped
		}
	}
}

// Barrier has nothing to wait for.
func (silence) Barrier(context.Context) {}

// LastAlive is now: nothing can be lost.
func (silence) LastAlive() time.Time { return time.Now() }

// Peer is nobody.
func (silence) Peer() source.Peer { return source.Peer{Server: "nobody"} }
