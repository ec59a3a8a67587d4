package pghub

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Notify publishes an event and returns nil once it is committed. See Codec for what key and value may be.
//
// It is sent through the pool, by one statement at a time for all callers: those who call while one is under way share
// the next, in which everybody still gets an answer of their own and every event is delivered, equal ones too. Events
// of one caller keep their order.
//
// ErrTopic, ErrValue and ErrPayloadTooLarge come at once and send nothing; so do ErrNotStarted, ErrStopped, ErrNoPool,
// and the end of ctx while waiting. ErrNotConnected: no connection was to be had, nothing was sent. A *[pgconn.PgError]:
// the server refused it, nothing was sent. ErrUnknownOutcome: the connection was lost, ctx ended, or Config.PublishTimeout
// passed without an answer, while the statement was under way; it may have been sent. What a hook of the pool or a tracer
// throws comes as one of these two, with ErrPanic.
//
// The end of ctx ends the call, but no statement that others share. Hooks and tracers get the values of ctx where a caller is
// alone; statements are sent on a goroutine of the hub's where callers are many.
//
// A hook or a tracer of the pool must not call Notify: it would wait for itself.
//
// See https://www.postgresql.org/docs/current/sql-notify.html.
func (h *Hub) Notify(ctx context.Context, topic string, key []int64, value any) error {
	if err := h.mayPublish(ctx); err != nil {
		return fmt.Errorf("pghub: notify: %w", err)
	}
	payload, err := h.encode(topic, key, value)
	if err != nil {
		return err
	}
	return h.publish(ctx, topic, payload, padOf(h.cfg.Codec))
}

// NotifyPayload publishes any text of up to 7,999 bytes of UTF-8 without NUL, as it is; otherwise it is like Notify. Equal
// texts on one topic need a statement each.
func (h *Hub) NotifyPayload(ctx context.Context, topic, payload string) error {
	if err := h.mayPublish(ctx); err != nil {
		return fmt.Errorf("pghub: notify: %w", err)
	}
	if err := checkTopic(topic); err != nil {
		return err
	}
	if err := checkPayload(topic, []byte(payload)); err != nil {
		return err
	}
	return h.publish(ctx, topic, payload, nil)
}

// Execer is the part of a transaction that NotifyTx needs: a [pgx.Tx], or anything of pgx with the same method. A wrapper of
// your own around one of these needs its method Conn too where databases are not in UTF-8: the text is converted then.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// NotifyTx publishes an event as part of the caller's transaction: it is sent when that commits, and never if it does
// not. PostgreSQL sends equal events of one transaction only once. It uses nothing of the hub but its codec, and so
// works in every state of the hub. Errors are ErrTopic, ErrValue and ErrPayloadTooLarge, after which the transaction is
// as it was, and those of tx.
func (h *Hub) NotifyTx(ctx context.Context, tx Execer, topic string, key []int64, value any) error {
	payload, err := h.encode(topic, key, value)
	if err != nil {
		return err
	}
	if converts(tx) {
		_, err = tx.Exec(ctx, notifyConvertedSQL, pgx.QueryExecModeExec, inBytes(topic), inBytes(payload))
	} else {
		_, err = tx.Exec(ctx, notifySQL, topic, payload)
	}
	if err != nil {
		return fmt.Errorf("pghub: notify %q in a transaction: %w", topic, err)
	}
	return nil
}

// converts tells whether the server would take the text of a transaction to be in another encoding than UTF-8. A test's double
// of a transaction may have no connection, or panic when it is asked for one.
func converts(tx Execer) (yes bool) {
	switch t := tx.(type) {
	case *pgx.Conn:
		return !takesUTF8(t)
	case *pgxpool.Pool:
		return true
	}
	t, known := tx.(interface{ Conn() *pgx.Conn })
	if !known {
		return false
	}
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return !takesUTF8(t.Conn())
}

func (h *Hub) mayPublish(ctx context.Context) error {
	h.mu.Lock()
	life := h.life
	h.mu.Unlock()
	switch {
	case life == lifeIdle:
		return ErrNotStarted
	case life >= lifeStopping:
		return ErrStopped
	case h.publisher == nil:
		return ErrNoPool
	}
	return ctx.Err()
}

const usualPayload = 128 // bytes; a longer one takes another allocation or two

func (h *Hub) encode(topic string, key []int64, value any) (string, error) {
	if err := checkTopic(topic); err != nil {
		return "", err
	}
	payload, err := h.cfg.Codec.Append(make([]byte, 0, usualPayload), key, value)
	if err != nil {
		return "", fmt.Errorf("pghub: notify %q: %w", topic, err)
	}
	if err := checkPayload(topic, payload); err != nil {
		return "", err
	}
	return string(payload), nil
}

func (h *Hub) publish(ctx context.Context, topic, payload string, pad func(string, int) string) error {
	if err := h.publisher.publish(ctx, notification{topic, payload}, pad); err != nil {
		return fmt.Errorf("pghub: notify %q: %w", topic, err)
	}
	return nil
}
