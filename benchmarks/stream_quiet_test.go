package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCountStatements(t *testing.T) {
	const log = `2026-11-21 19:33:22.826 UTC [5335] pghub stream LOG:  execute stmtcache_1: SELECT pghub.lead('sequencer', $1, $2) WHERE NOT pg_catalog.pg_is_in_recovery()
2026-11-21 19:33:22.826 UTC [5335] pghub stream DETAIL:  parameters: $1 = 'x', $2 = '00:00:10'
2026-11-21 19:33:22.826 UTC [5336] pghub LOG:  execute <unnamed>: SELECT pghub.store($1, $2, $3, $4, $5, $6, $7)
2026-11-21 19:33:22.826 UTC [5337] pghub LOG:  statement: 
2026-11-21 19:33:22.826 UTC [5335] pghub stream LOG:  execute stmtcache_2: SELECT tick FROM pghub.tick()
2026-11-21 19:33:22.826 UTC [5338] app LOG:  statement: BEGIN; SET LOCAL synchronous_commit = off
2026-11-21 19:33:22.826 UTC [5338] app LOG:  execute stmtcache_3: 
	SELECT * FROM (
		WITH last_processed AS (
2026-11-21 19:33:22.826 UTC [5339]  LOG:  checkpoint starting: time
`
	leases, others := countStatements(log)
	require.Equal(t, 3, leases)
	require.Equal(t, 3, others)
}

func TestTurnsMeasureOnceForAll(t *testing.T) {
	measured := 0.0
	turns := &turns{measure: func(context.Context) (quiet, error) {
		measured++
		return quiet{leases: measured, others: -measured}, nil
	}}
	a := turns.contender("a", func(q quiet) float64 { return q.leases })
	b := turns.contender("b", func(q quiet) float64 { return q.others })
	for round := 1.0; round <= 3; round++ {
		for _, c := range []struct {
			contender
			want float64
		}{{a, round}, {b, -round}} {
			s, err := c.trial(t.Context())
			require.NoError(t, err)
			require.InDelta(t, c.want, s.value, 0)
		}
	}
	for range 2 { // alone
		_, err := b.trial(t.Context())
		require.NoError(t, err)
	}
	require.InDelta(t, 5.0, measured, 0)
}
