package pghub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub/internal/source"
)

// Attach is for packages of this module, such as stream: it has a guest live with the hub and end before it. The hub needs
// a pool (ErrNoPool) and must not have stopped (ErrStopped).
func (h *Hub) Attach(g source.Guest) (source.Host, error) {
	if h.cfg.Pool == nil {
		return nil, fmt.Errorf("pghub: attach: %w", ErrNoPool)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life >= lifeStopping {
		return nil, fmt.Errorf("pghub: attach: %w", ErrStopped)
	}
	h.guests = append(h.guests, g)
	h.router.feeds(g.Topics())
	return host{h}, nil
}

// stopGuests ends all guests at once, within ctx.
func (h *Hub) stopGuests(ctx context.Context) {
	h.mu.Lock()
	guests := h.guests
	h.mu.Unlock()
	var all sync.WaitGroup
	for _, g := range guests {
		all.Go(func() { g.Stop(ctx) })
	}
	all.Wait()
}

// host is the hub as its guests see it.
type host struct{ h *Hub }

func (t host) Listening() <-chan struct{}    { return t.h.supervisor.started }
func (t host) Pool() *pgxpool.Pool           { return t.h.cfg.Pool }
func (t host) PublishTimeout() time.Duration { return t.h.cfg.PublishTimeout }
func (t host) BaseContext() context.Context  { return t.h.cfg.BaseContext }
func (t host) Name() string                  { return t.h.cfg.Name }
func (t host) Backoff(failures int) time.Duration {
	return backoff(failures, t.h.cfg.ReconnectMin, t.h.cfg.ReconnectMax)
}

func (t host) ConnConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	return listenerConfig(ctx, &t.h.cfg)
}

func (t host) Feed(messages []source.Message) {
	t.h.router.route(messages, false, true)
	t.h.brake.pause()
}

func (t host) Missed(topics []string, why error) { t.h.router.missed(topics, why) }

func (t host) Trouble(cause string, err error, attrs ...any) {
	t.h.report.trouble(cause, err, attrs...)
}

func (t host) Log(level slog.Level, cause, msg string, attrs ...any) {
	t.h.report.log(level, cause, msg, attrs...)
}
