package main

import (
	"fmt"
	"io"
)

// target is a promise about this library's own lines, in terms of others of the same run.
type target struct {
	section, job, contender string
	reference               string // contender that it is compared with; "": the figure itself counts
	what                    string
	figure                  func(sample) float64
	atLeast, atMost         float64 // one of them is set
}

func allocsFigure(s sample) float64 { return s.allocs }

var targets = []target{
	{"receive", "64 B", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "512 B", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "7 kB", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "64 B, 64 MB heap", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "512 B, 64 MB heap", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "7 kB, 64 MB heap", byHub, byBare, "events/s", mainFigure, 0.80, 0},
	{"receive", "64 B", byHub, byPgx, "events/s", mainFigure, 2, 0},
	{"receive", "512 B", byHub, byPgx, "events/s", mainFigure, 1.4, 0},
	{"receive", "7 kB", byHub, byPgx, "events/s", mainFigure, 1.1, 0},
	{"receive", "64 B", byHub, "", "allocations/event", allocsFigure, 0, 2},
	{"receive", "512 B", byHub, "", "allocations/event", allocsFigure, 0, 2},
	{"receive", "7 kB", byHub, "", "allocations/event", allocsFigure, 0, 2},
	{"fan-out", "100 consumers", byHub, byGoroutines, "deliveries/s", mainFigure, 2.5, 0},
	{"one to many", "one event", byHub, byGoroutines, "p99", mainFigure, 0, 0.4},
	{"slow neighbour", "99 consumers", byHub + ", one sleeps", byHub + ", nobody slow", "p99", mainFigure, 0, 2},
	{"notify", "1 caller, 0 listeners, unique", byHub, byPool4, "events/s", mainFigure, 0.85, 0},
	{"notify", "16 callers, 0 listeners, unique", byHub, byPool4, "events/s", mainFigure, 2.5, 0},
	{"notify", "256 callers, 0 listeners, unique", byHub, byPool4, "events/s", mainFigure, 12, 0},
	{"notify", "256 callers, 50 listeners, unique", byHub, byPool4, "events/s", mainFigure, 30, 0},
	{"notify", "256 callers, 0 listeners, equal", byHub, byPool4, "events/s", mainFigure, 10, 0},
	{"listen", "10000 topics", byHub, byPq, "time", mainFigure, 0, 0.3},
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
		measured := median(l.each(t.figure))
		what := t.what
		if t.reference != "" {
			measured = l.ratio(reference, t.figure)
			what += " × " + t.reference
		}
		goal, met := "≥ "+digits(t.atLeast), measured >= t.atLeast
		if t.atMost > 0 {
			goal, met = "≤ "+digits(t.atMost), measured <= t.atMost
		}
		writeRow(w, []string{t.section + ": " + t.job, what, goal, digits(measured), map[bool]string{true: "yes", false: "**no**"}[met]})
	}
	if headed {
		fmt.Fprintln(w)
	}
}
