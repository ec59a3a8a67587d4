package main

import (
	"fmt"
	"io"
)

// target is a promise about this library's own lines.
type target struct {
	section, job, contender string
	reference               string // contender of the same run that it is compared with; "": the figure itself counts
	figure                  figure
	atLeast, atMost         float64 // one of them is set: a quotient, or the median of the figure itself
}

// figure is something that a sample tells.
type figure struct {
	name   string
	of     func(sample) float64
	format func(float64) string // of the figure itself
}

var (
	eventRate      = figure{"events/s", mainFigure, formatCount}
	deliveryRate   = figure{"deliveries/s", mainFigure, formatCount}
	timeFigure     = figure{"time", mainFigure, formatSeconds}
	p99Figure      = figure{"p99", mainFigure, formatSeconds}
	allocsPerEvent = figure{"allocations/event", func(s sample) float64 { return s.allocs }, digits}
)

func formatSeconds(v float64) string { return format(seconds, v) }

var targets = []target{
	{"receive", "64 B", byHub, byBare, eventRate, 0.80, 0},
	{"receive", "512 B", byHub, byBare, eventRate, 0.80, 0},
	{"receive", "7 kB", byHub, byBare, eventRate, 0.80, 0},
	{"receive", "64 B, 64 MB heap", byHub, byBare, eventRate, 0.85, 0},
	{"receive", "512 B, 64 MB heap", byHub, byBare, eventRate, 0.85, 0},
	{"receive", "7 kB, 64 MB heap", byHub, byBare, eventRate, 0.85, 0},
	{"receive", "64 B", byHub, byPgx, eventRate, 2, 0},
	{"receive", "512 B", byHub, byPgx, eventRate, 1.4, 0},
	{"receive", "7 kB", byHub, byPgx, eventRate, 1.1, 0},
	{"receive", "64 B", byHub, "", allocsPerEvent, 0, 2},
	{"receive", "512 B", byHub, "", allocsPerEvent, 0, 2},
	{"receive", "7 kB", byHub, "", allocsPerEvent, 0, 2},
	{"fan-out", "100 consumers", byHub, byGoroutines, deliveryRate, 3.5, 0},
	{"one to many", "one event", byHub, byGoroutines, p99Figure, 0, 0.45},
	{"slow neighbour", "99 consumers", byHub + ", one sleeps", byHub + ", nobody slow", p99Figure, 0, 2},
	{"begin to block", "1000 handlers", byHub, "", timeFigure, 0, 0.030},
	{"begin to block", "10000 handlers", byHub, "", timeFigure, 0, 0.050},
	{"stuck", "1000 handlers", byHub, "", p99Figure, 0, 0.002},
	{"stuck", "10000 handlers", byHub, "", p99Figure, 0, 0.002},
	{"released", "reader away", byHub, "", timeFigure, 0, 0.005},
	{"released", "quick event", byHub, "", timeFigure, 0, 0.050},
	{"notify", "1 caller, 0 listeners, unique", byHub, byPool4, eventRate, 0.9, 0},
	{"notify", "16 callers, 0 listeners, unique", byHub, byPool4, eventRate, 3, 0},
	{"notify", "256 callers, 0 listeners, unique", byHub, byPool4, eventRate, 16, 0},
	{"notify", "256 callers, 50 listeners, unique", byHub, byPool4, eventRate, 30, 0},
	{"notify", "256 callers, 0 listeners, equal", byHub, byPool4, eventRate, 10, 0},
	{"listen", "10000 topics", byHub, byPq, timeFigure, 0, 0.3},
}

// writeTargets says which targets the lines meet; those that were not measured are left out.
func writeTargets(w io.Writer, targets []target, lines []*line) {
	headed := false
	for _, t := range targets {
		l := of(lines, t.section, t.job, t.contender)
		reference := of(lines, t.section, t.job, t.reference)
		if l == nil || t.reference != "" && reference == nil {
			continue
		}
		if !headed {
			headed = true
			fmt.Fprint(w, "### Targets\n\n")
			writeRow(w, []string{"job", "figure", "target", "measured", "met"})
			writeRow(w, []string{"---", "---", "---", "---", "---"})
		}
		measured, what, write := median(l.each(t.figure.of)), t.figure.name, t.figure.format
		if t.reference != "" {
			measured = l.ratio(reference, t.figure.of)
			what += " × " + t.reference
			write = digits
		}
		goal, met := "≥ "+write(t.atLeast), measured >= t.atLeast
		if t.atMost > 0 {
			goal, met = "≤ "+write(t.atMost), measured <= t.atMost
		}
		writeRow(w, []string{t.section + ": " + t.job, what, goal, write(measured), map[bool]string{true: "yes", false: "**no**"}[met]})
	}
	if headed {
		fmt.Fprintln(w)
	}
}
