package pghub

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// Check proves that events get through: it listens on a channel of its own, publishes through the pool, and returns how long
// that took to come back to a handler. A hub whose Check succeeds is connected, publishes, hears, and has Pool and
// ListenConfig point at the same database. It costs three statements, and is made for a readiness check, every few seconds.
//
// It does not wait for a lost connection: ErrNotConnected says what the listener is doing and why. ErrNotHeard means that
// the event was committed, that the listener has answered after that, and that it has not got the event: the two are at
// different databases, or something between listener and server swallows notifications. Other errors are those of Notify and
// Subscribe. ctx bounds it, and so do ProbeTimeout and PublishTimeout together. It may be called from anywhere, and by many at once.
//
// Do not have a liveness check call it. That would restart every process while the database is away, which brings it back no
// sooner, and then makes all of them connect and load at once. A process that lives is one that answers.
func (h *Hub) Check(ctx context.Context) (latency time.Duration, err error) {
	if err := h.mayPublish(ctx); err != nil {
		return 0, fmt.Errorf("pghub: check: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(h.cfg.ProbeTimeout, defaultProbeTimeout)+h.cfg.PublishTimeout)
	defer cancel()
	if latency, err = h.check(ctx); err != nil {
		return 0, fmt.Errorf("pghub: check: %w", err)
	}
	return latency, nil
}

func (h *Hub) check(ctx context.Context) (latency time.Duration, err error) {
	sess := h.supervisor.current()
	if sess == nil || h.State() != StateListening {
		return 0, h.notListening()
	}
	topic := "pghub_check_" + strings.ToLower(rand.Text())
	heard := make(chan time.Time, 1)
	c, err := h.Consumer(ctx, func(_ context.Context, ev *Event) {
		if ev.Advisory == nil {
			select {
			case heard <- time.Now():
			default: // somebody else has guessed the topic
			}
		}
	}, &ConsumerConfig{Name: "pghub.Check", Topics: []string{topic}, Codec: RawCodec{}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // never fails

	sent := time.Now()
	if err := h.NotifyPayload(ctx, topic, ""); err != nil {
		return 0, err
	}
	sess.Barrier(ctx) // what was committed before has arrived, if it comes at all
	if err := c.Drain(ctx); err != nil {
		return 0, err
	}
	select {
	case at := <-heard:
		return at.Sub(sent), nil
	default:
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case h.supervisor.current() != sess:
		return 0, h.notListening()
	}
	return 0, fmt.Errorf("%w: it was committed through the pool, and the listener at %s has got nothing", ErrNotHeard, sess.Peer().Server)
}

// notListening says what the listener does instead.
func (h *Hub) notListening() error {
	st := Stats{}
	h.supervisor.stats(&st)
	if st.LastError != nil {
		return fmt.Errorf("%w: the listener is %v: %w", ErrNotConnected, h.State(), st.LastError)
	}
	return fmt.Errorf("%w: the listener is %v", ErrNotConnected, h.State())
}
