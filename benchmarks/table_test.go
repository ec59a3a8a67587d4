package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFormat(t *testing.T) {
	for want, got := range map[string]string{
		"4.40 M/s": format(perSecond, 4.4e6),
		"0.60/s":   format(rarePerSecond, 0.6),
		"12":       format(number, 12),
		"105 k/s":  format(perSecond, 105e3),
		"2600/s":   format(perSecond, 2600),
		"102 ms":   format(seconds, 0.102),
		"1.50 s":   format(seconds, 1.5),
		"60.0 µs":  format(seconds, 60e-6),
		"210 ns":   formatDuration(210),
		"–":        formatRatio(0),
		"0.84":     formatRatio(0.84),
		"19.4":     formatRatio(19.41),
	} {
		require.Equal(t, want, got)
	}
}

// counting gives 1, 2, 3 … times a factor.
func counting(factor float64) func(context.Context) (sample, error) {
	n := 0.0
	return func(context.Context) (sample, error) {
		n++
		return sample{value: n * factor, p99: time.Duration(n) * time.Millisecond, allocs: 2}, nil
	}
}

func testSection() *section {
	return &section{
		name: "s", title: "Title", about: "About.", references: []string{"a"}, columns: columns{latency: true, cost: true},
		cases: []benchCase{{name: "job", contenders: []contender{{"a", counting(1)}, {"b", counting(3)}, {"c", counting(5)}}}},
	}
}

func TestSectionRunsInRoundsAndCompares(t *testing.T) {
	s := testSection()
	var progress strings.Builder
	lines, err := s.run(t.Context(), 3, regexp.MustCompile(`^s/job/[ab]$`), &progress)
	require.NoError(t, err)
	require.Len(t, lines, 2)
	require.Equal(t, []float64{3, 6, 9}, of(lines, "s", "job", "b").values())
	require.Nil(t, of(lines, "s", "job", "c"))
	require.Equal(t, 6, strings.Count(progress.String(), "\n"))
	require.Less(t, strings.Index(progress.String(), "b: round 1"), strings.Index(progress.String(), "a: round 2"))

	var table strings.Builder
	s.writeTable(&table, lines)
	rows := strings.Split(strings.TrimSpace(table.String()), "\n")
	require.Equal(t, "| job | b | 6/s | 3/s – 9/s | 3.00 | – | 2.00 ms | – | 2.00 | – | 0 |", rows[len(rows)-1])
	for _, row := range rows[len(rows)-4:] {
		require.Equal(t, strings.Count(rows[len(rows)-1], "|"), strings.Count(row, "|"))
	}
}

func TestSectionNamesWhatFailed(t *testing.T) {
	s := testSection()
	failure := errors.New("failure")
	s.cases[0].contenders[1].trial = func(context.Context) (sample, error) { return sample{}, failure }
	_, err := s.run(t.Context(), 1, regexp.MustCompile(""), io.Discard)
	require.ErrorIs(t, err, failure)
	require.ErrorContains(t, err, "s: job: b")
}

func TestTargets(t *testing.T) {
	lines, err := testSection().run(t.Context(), 3, regexp.MustCompile(""), io.Discard)
	require.NoError(t, err)
	var table strings.Builder
	writeTargets(&table, []target{
		{"s", "job", "b", "a", eventRate, 2.5, 0},
		{"s", "job", "b", "a", eventRate, 3.5, 0},
		{"s", "job", "b", "", allocsPerEvent, 0, 1},
		{"s", "job", "b", "", timeFigure, 0, 7.5},
		{"s", "job", "b", "", timeFigure, 0, 5.5},
		{"s", "other job", "b", "", allocsPerEvent, 0, 1},
	}, lines)
	text := table.String()
	require.Contains(t, text, "| s: job | events/s × a | ≥ 2.50 | 3.00 | yes |")
	require.Contains(t, text, "| s: job | events/s × a | ≥ 3.50 | 3.00 | **no** |")
	require.Contains(t, text, "| s: job | allocations/event | ≤ 1.00 | 2.00 | **no** |")
	require.Contains(t, text, "| s: job | time | ≤ 7.50 s | 6.00 s | yes |")
	require.Contains(t, text, "| s: job | time | ≤ 5.50 s | 6.00 s | **no** |")
	require.NotContains(t, text, "other job")
}

func TestTargetsNameLinesThatExist(t *testing.T) {
	names := make(map[string]bool)
	lab := newLab(1, "")
	lab.slowable = true
	for _, s := range sections(&database{tlsDSN: "x"}, lab, 1) {
		for _, job := range s.cases {
			for _, c := range job.contenders {
				name := s.name + "/" + job.name + "/" + c.name
				require.False(t, names[name], name)
				names[name] = true
			}
		}
	}
	for _, goal := range append(targets, streamTargets...) {
		require.Contains(t, names, goal.section+"/"+goal.job+"/"+goal.contender)
		if goal.reference != "" {
			require.Contains(t, names, goal.section+"/"+goal.job+"/"+goal.reference)
		}
		require.True(t, (goal.atLeast > 0) != (goal.atMost > 0), goal)
	}
}
