package stream_test

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// With the simple protocol, which some poolers need, rows come as text. They are read as those in binary are.
func TestRowsInText(t *testing.T) {
	pgtest.CheckLeaks(t)
	l := &lab{t: t, dsn: pgtest.Database(t)}
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, l.dsn)))
	cfg, err := pgxpool.ParseConfig(l.dsn)
	require.NoError(t, err)
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	l.pool, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(l.pool.Close)
	l.hub, l.s = processOn(t, l.pool, stream.Config{Lease: forEver})

	l.do(`SELECT pghub.publish('a', NULL::bigint[], NULL::json)`)
	l.do(`SELECT pghub.publish('a', '{}'::bigint[], NULL::json)`)
	extremes := []int64{math.MinInt64, -1, 0, math.MaxInt64}
	require.NoError(t, l.s.Publish(t.Context(), "a", extremes, "it's \u00e9", stream.WithHeaders(map[string]string{"trace": `1 "quoted"`})))

	_, binary := processOn(t, pgtest.Pool(t, l.dsn), stream.Config{Lease: forEver})
	var want, got []*pghub.Event
	eventually(t, "all are there", func() bool {
		want, got = nil, nil
		for ev, err := range binary.Read(t.Context(), stream.Earliest) {
			require.NoError(t, err)
			want = append(want, ev)
		}
		return len(want) == 3
	})
	for ev, err := range l.s.Read(t.Context(), stream.Earliest) {
		require.NoError(t, err)
		got = append(got, ev)
	}
	require.Len(t, got, 3)
	for i := range got {
		require.Equal(t, want[i].Record.Position, got[i].Record.Position)
		require.Equal(t, "a", got[i].Topic)
		require.True(t, want[i].Record.Time.Equal(got[i].Record.Time))
		require.Equal(t, want[i].Record.Headers, got[i].Record.Headers)
		require.Equal(t, want[i].Payload, got[i].Payload)
	}
	require.Equal(t, "e", string(got[0].Payload))
	require.Equal(t, "e", string(got[1].Payload))
	require.Nil(t, got[0].Value)
	require.Equal(t, extremes, got[2].Key)
	require.Equal(t, `1 "quoted"`, got[2].Record.Headers["trace"])

	// The same by way of pghub.parked.
	var mended atomic.Bool
	again := make(chan *pghub.Event, 10)
	_, err = l.s.Durable(t.Context(), "d", func(_ context.Context, ev *pghub.Event) error {
		if !mended.Load() {
			return errors.New("not yet")
		}
		again <- ev
		return nil
	}, &stream.DurableConfig{MaxAttempts: 1})
	require.NoError(t, err)
	eventually(t, "they are parked", func() bool { return one[int](l, `SELECT count(*) FROM pghub.parked WHERE NOT again`) == 3 })
	mended.Store(true)
	require.Equal(t, 3, one[int](l, `SELECT pghub.unpark('d')`))
	for i := range got {
		ev := <-again
		require.Equal(t, "a", ev.Topic)
		require.Equal(t, got[i].Payload, ev.Payload)
		require.Equal(t, got[i].Record.Position, ev.Record.Position)
		require.Equal(t, got[i].Record.Headers, ev.Record.Headers)
	}
}
