package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// writeTable writes a section as Markdown.
func (s *section) writeTable(w io.Writer, lines []*line) {
	fmt.Fprintf(w, "### %s\n\n%s\n\n", s.title, s.about)
	head := []string{"job", "by", "median", "min – max"}
	for _, reference := range s.references {
		head = append(head, "× "+reference)
	}
	if s.columns.latency {
		head = append(head, "p50", "p99", "p99.9")
	}
	if s.columns.cost {
		head = append(head, "allocs/event", "client CPU/event")
	}
	head = append(head, "lost")
	writeRow(w, head)
	writeRow(w, slices.Repeat([]string{"---"}, len(head)))
	for _, l := range lines {
		writeRow(w, s.row(lines, l))
	}
	fmt.Fprintln(w)
}

func (s *section) row(lines []*line, l *line) []string {
	values := l.values()
	if len(values) == 0 {
		return []string{l.job, l.contender}
	}
	row := []string{
		l.job, l.contender, format(s.unit, median(values)),
		format(s.unit, slices.Min(values)) + " – " + format(s.unit, slices.Max(values)),
	}
	for _, reference := range s.references {
		row = append(row, formatRatio(l.ratio(of(lines, s.name, l.job, reference), mainFigure)))
	}
	if s.columns.latency {
		row = append(row, formatDuration(l.medianDuration(p50)), formatDuration(l.medianDuration(p99)), formatDuration(l.medianDuration(p999)))
	}
	if s.columns.cost {
		row = append(row, fmt.Sprintf("%.2f", median(l.each(func(s sample) float64 { return s.allocs }))),
			formatDuration(l.medianDuration(func(s sample) float64 { return float64(s.cpu) })))
	}
	return append(row, formatCount(median(l.each(func(s sample) float64 { return float64(s.lost) }))))
}

func (l *line) medianDuration(figure func(sample) float64) time.Duration {
	return time.Duration(median(l.each(figure)))
}

func mainFigure(s sample) float64 { return s.value }
func p50(s sample) float64        { return float64(s.p50) }
func p99(s sample) float64        { return float64(s.p99) }
func p999(s sample) float64       { return float64(s.p999) }

func writeRow(w io.Writer, cells []string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

// format writes a value of a section with three digits and a unit.
func format(u unit, v float64) string {
	switch u {
	case seconds:
		return formatDuration(time.Duration(v * float64(time.Second)))
	case rarePerSecond:
		return digits(v) + "/s"
	case number:
		return formatCount(v)
	case perSecond:
	}
	return formatCount(v) + "/s"
}

func formatCount(v float64) string {
	switch {
	case v >= 1e6:
		return digits(v/1e6) + " M"
	case v >= 1e4:
		return digits(v/1e3) + " k"
	}
	return fmt.Sprintf("%.0f", v)
}

func formatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d >= time.Second:
		return digits(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return digits(float64(d)/1e6) + " ms"
	case d >= time.Microsecond:
		return digits(float64(d)/1e3) + " µs"
	}
	return fmt.Sprintf("%d ns", d)
}

func formatRatio(r float64) string {
	if r == 0 {
		return "–"
	}
	return digits(r)
}

// digits writes three of them, or all that stand before the point.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
