package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCrossings(t *testing.T) {
	c := newCrossings(3)
	for number := range int64(3) {
		c.commit(number)
		c.handle(number)
	}
	c.handle(0) // once more
	<-c.ended

	start := time.Now()
	for i, ms := range []int{-5, 10, 20} { // the first was handled before its writer knew
		c.committed[i] = start
		c.handled[i] = start.Add(time.Duration(ms) * time.Millisecond)
	}
	s := c.sample()
	require.InEpsilon(t, 0.010, s.value, 1.0/perOctave)
	require.InEpsilon(t, float64(20*time.Millisecond), float64(s.p99), 1.0/perOctave)
}

func TestRaceEndsWithTheLastEvent(t *testing.T) {
	r := newRace(2)
	var s sample
	require.True(t, r.count(&s))
	require.Zero(t, s.value)
	require.False(t, r.count(&s))
	require.Positive(t, s.value)
	require.NoError(t, r.err(t.Context()))
	require.False(t, r.count(&s), "one more than was wanted")
}

func TestTargetsOfTheHandlersLatency(t *testing.T) {
	var table strings.Builder
	writeTargets(&table, streamTargets, []*line{{section: "stream latency", job: "500/s", contender: byDurables, samples: []sample{
		{value: 0.003, p50: 3 * time.Millisecond, p99: 30 * time.Millisecond},
	}}})
	require.Contains(t, table.String(), "| p50 | ≤ 4.00 ms | 3.00 ms | yes |")
	require.Contains(t, table.String(), "| p99 | ≤ 20.0 ms | 30.0 ms | **no** |")
}
