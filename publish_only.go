package pghub

import (
	"context"
	"errors"
)

// Publisher publishes and does not listen: for a command, a job or a request handler that has something to say and nothing to
// hear. It opens no connection of its own, has no goroutine while nobody publishes, and costs the server no listener. Calls
// from many goroutines share statements, as those of a [Hub] do. All methods may be called from any goroutine.
type Publisher struct {
	hub *Hub // that is never started
}

// NewPublisher makes a publisher. Of the configuration Pool, which must be set, Name, Logger, Codec, PublishTimeout,
// StopTimeout and OnError count. It connects to nothing; the error says what is wrong with the configuration.
func NewPublisher(cfg Config) (*Publisher, error) {
	if cfg.Pool == nil {
		return nil, errors.New("pghub: a Publisher needs a Pool")
	}
	hub, err := New(cfg)
	if err != nil {
		return nil, err
	}
	hub.life = lifePublishing
	return &Publisher{hub}, nil
}

// Notify publishes an event and returns nil once it is committed; see [Hub.Notify].
func (p *Publisher) Notify(ctx context.Context, topic string, key []int64, value any) error {
	return p.hub.Notify(ctx, topic, key, value)
}

// NotifyPayload publishes any text; see [Hub.NotifyPayload].
func (p *Publisher) NotifyPayload(ctx context.Context, topic, payload string) error {
	return p.hub.NotifyPayload(ctx, topic, payload)
}

// NotifyTx publishes an event as part of the caller's transaction; see [Hub.NotifyTx].
func (p *Publisher) NotifyTx(ctx context.Context, tx Execer, topic string, key []int64, value any) error {
	return p.hub.NotifyTx(ctx, tx, topic, key, value)
}

// NotifySQLTx publishes an event as part of the caller's transaction of database/sql; see [Hub.NotifySQLTx].
func (p *Publisher) NotifySQLTx(ctx context.Context, tx SQLExecer, topic string, key []int64, value any) error {
	return p.hub.NotifySQLTx(ctx, tx, topic, key, value)
}

// Stop waits until every call under way has its answer. Calls after it get ErrStopped. If ctx ends first the statement is cut
// off: its callers get ErrUnknownOutcome, or ErrNotConnected where nothing was sent yet, and the error wraps that of ctx. The
// pool is yours to close. A process that has no call under way need not call it.
func (p *Publisher) Stop(ctx context.Context) error { return p.hub.Stop(ctx) }

// Stats returns the figures of publishing; those of listening are zero.
func (p *Publisher) Stats() Stats { return p.hub.Stats() }
