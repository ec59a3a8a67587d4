package stream_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/stream"
)

// answered calls a function when the server has answered a query, and before whoever asked it has read that.
type answered struct {
	query string
	then  atomic.Pointer[func()]
}

type answeredKey struct{}

func (a *answered) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, answeredKey{}, strings.Contains(data.SQL, a.query))
}

func (a *answered) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(answeredKey{}) == true {
		if then := a.then.Swap(nil); then != nil {
			(*then)()
		}
	}
}

// A consumer is free again after the server has said that somebody else has it, and before that is known here: whoever stands by
// takes it at once, and not at the end of a lease.
func TestAConsumerIsReleasedWhileItIsTried(t *testing.T) {
	l := newLab(t, stream.Config{Lease: forEver})
	first, err := l.s.Durable(t.Context(), "d", newSeen().handle, nil)
	require.NoError(t, err)

	cfg, err := pgxpool.ParseConfig(l.dsn)
	require.NoError(t, err)
	tracer := &answered{query: "pghub.attach("}
	cfg.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, s := processOn(t, pool, stream.Config{Lease: forEver})
	listens := stream.NextChange(s, "nobody") // closed as it begins to listen, too, which takes every consumer for changed
	l.do(`NOTIFY "pghub.stream", 'free nobody'`)
	select {
	case <-listens:
	case <-t.Context().Done():
	}
	release := func() {
		heard := stream.NextChange(s, "d")
		if err := first.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		select {
		case <-heard:
		case <-t.Context().Done():
		}
	}
	tracer.then.Store(&release)
	second, err := s.Durable(t.Context(), "d", newSeen().handle, nil)
	require.NoError(t, err)
	require.Nil(t, tracer.then.Load(), "it was tried, and released meanwhile")
	eventually(t, "it works", func() bool { return second.Stats().Working })
}
