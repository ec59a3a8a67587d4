package pghubprom

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestNothingOfStreamsIsLeftOut(t *testing.T) {
	requireAll(t, streamMetrics(describer{}), map[string]bool{"PID": true}) // connected
	requireAll(t, durableMetrics(describer{}), nil)
	requireAll(t, statusMetrics(describer{}), nil)
	requireAll(t, consumerStatusMetrics(describer{}), nil)
}

// A stream's figures, those of its durable consumers, and what the database knows of them.
func TestStreamCollector(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(pgtest.Within(t))) })
	require.NoError(t, hub.Start(pgtest.Within(t)))
	s, err := stream.Open(pgtest.Within(t), hub, stream.Config{})
	require.NoError(t, err)
	handle := func(_ context.Context, ev *pghub.Event) error {
		if ev.Record.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}
	_, err = s.Durable(pgtest.Within(t), "billing", handle, &stream.DurableConfig{From: stream.Earliest})
	require.NoError(t, err)
	halts, err := s.Durable(pgtest.Within(t), "mail", handle, &stream.DurableConfig{MaxAttempts: 1, Poison: stream.Halt})
	require.NoError(t, err)
	require.NoError(t, s.Publish(pgtest.Within(t), "orders", []int64{7}, nil))
	<-halts.Done()
	registry := registryOf(New(hub, nil), NewStream(hub, s, nil), NewStreamStatus(hub, s, nil))
	eventually(t, registry, map[string]float64{
		`pghub_stream_connected{hub="shop"}`:                                   1,
		`pghub_stream_published_total{hub="shop"}`:                             1,
		`pghub_stream_halted_total{hub="shop"}`:                                1,
		`pghub_stream_consumer_delivered_total{consumer="billing",hub="shop"}`: 1,
		`pghub_stream_consumer_failed_total{consumer="billing",hub="shop"}`:    1,
		`pghub_stream_consumer_in_hand_events{consumer="billing",hub="shop"}`:  0,
		`pghub_stream_consumer_working{consumer="billing",hub="shop"}`:         1,
		`pghub_stream_status_up{hub="shop"}`:                                   1,
		`pghub_stream_has_sequencer{hub="shop"}`:                               1,
		`pghub_stream_kept_events{hub="shop"}`:                                 1,
		`pghub_stream_consumers{hub="shop"}`:                                   2,
		`pghub_stream_consumer_owned{consumer="billing",hub="shop"}`:           1,
		`pghub_stream_consumer_lag_events{consumer="billing",hub="shop"}`:      0,
		`pghub_stream_consumer_owned{consumer="mail",hub="shop"}`:              0,
		`pghub_stream_consumer_lag_events{consumer="mail",hub="shop"}`:         1,
	})
	require.Positive(t, gathered(t, registry)[`pghub_stream_consumer_lag_seconds{consumer="mail",hub="shop"}`])

	// Without a sequencer, and without the database.
	require.NoError(t, hub.Stop(pgtest.Within(t)))
	eventually(t, registry, map[string]float64{
		`pghub_stream_connected{hub="shop"}`:                         0,
		`pghub_stream_has_sequencer{hub="shop"}`:                     0,
		`pghub_stream_consumer_owned{consumer="billing",hub="shop"}`: 0,
	})
	pool.Close()
	got := gathered(t, registry)
	requireValues(t, got, map[string]float64{`pghub_stream_status_up{hub="shop"}`: 0, `pghub_stream_published_total{hub="shop"}`: 1})
	require.NotContains(t, got, `pghub_stream_has_sequencer{hub="shop"}`)
}

// A database that does not answer does not keep the figures of the process from whoever asks: that is when they are wanted.
func TestStatusThatHangs(t *testing.T) {
	limits := &limits{}
	cfg, err := pgxpool.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	cfg.ConnConfig.Tracer = limits
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(pgtest.Within(t))) })
	s, err := stream.Open(pgtest.Within(t), hub, stream.Config{})
	require.NoError(t, err)
	tx, err := pool.Begin(pgtest.Within(t))
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(pgtest.Within(t)) }()
	_, err = tx.Exec(pgtest.Within(t), `LOCK TABLE pghub.stream_settings IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	requireValues(t, gathered(t, registryOf(New(hub, nil), NewStreamStatus(hub, s, nil))), map[string]float64{
		`pghub_stream_status_up{hub=""}`: 0,
		`pghub_listening{hub=""}`:        0,
	})
	require.NotEmpty(t, limits.all(), "the database is asked")
	for _, limit := range limits.all() {
		require.Greater(t, limit, time.Duration(0), "there is a limit")
		require.LessOrEqual(t, limit, 10*time.Second)
	}
}

// limits notes how long queries for a stream's status may take.
type limits struct {
	mu    sync.Mutex
	times []time.Duration // 0: for ever
}

func (l *limits) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "SELECT events, bytes, ") {
		var limit time.Duration
		if deadline, limited := ctx.Deadline(); limited {
			limit = time.Until(deadline)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.times = append(l.times, limit)
		if limit <= 0 || limit > 10*time.Second { // the test would wait for ever
			ended, cancel := context.WithCancel(ctx)
			cancel()
			return ended
		}
	}
	return ctx
}

func (l *limits) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (l *limits) all() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.times)
}
