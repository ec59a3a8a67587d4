package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"
)

// section is a table of its own: the same jobs done by several contenders.
type section struct {
	name       string // for the -only flag
	title      string
	about      string   // a sentence on what was done
	unit       unit     // of sample.value
	references []string // contenders that the others are compared with
	columns    columns
	cases      []benchCase
	prepare    func(ctx context.Context) error // before the first trial, if there is one; nil: nothing
}

// benchCase is one job, measured with all contenders side by side.
type benchCase struct {
	name       string
	x          float64 // for the plot
	contenders []contender
}

// contender does a job in its own way. A trial opens and closes all it needs.
type contender struct {
	name  string
	trial func(ctx context.Context) (sample, error)
}

// unit says what sample.value counts.
type unit int

const (
	perSecond unit = iota
	seconds
	rarePerSecond // a few, or less than one
	number
)

// columns says what a section measures besides sample.value.
type columns struct{ latency, cost bool }

const trialTimeout = 2 * time.Minute

// line is a row of a table: all trials of one contender at one job.
type line struct {
	section, job, contender string
	x                       float64
	samples                 []sample
}

// run does the trials of a section that only selects: every contender of a job once, and so on for all rounds, so that
// what disturbs the machine for a while disturbs all of them.
func (s *section) run(ctx context.Context, rounds int, only *regexp.Regexp, progress io.Writer) ([]*line, error) {
	var lines []*line
	prepared := s.prepare == nil
	for _, job := range s.cases {
		var selected []contender
		var rows []*line
		for _, c := range job.contenders {
			if only.MatchString(s.name + "/" + job.name + "/" + c.name) {
				selected = append(selected, c)
				rows = append(rows, &line{section: s.name, job: job.name, contender: c.name, x: job.x})
			}
		}
		if len(selected) > 0 && !prepared {
			fmt.Fprintf(progress, "%s: prepare\n", s.name)
			if err := s.prepare(ctx); err != nil {
				return lines, fmt.Errorf("%s: prepare: %w", s.name, err)
			}
			prepared = true
		}
		lines = append(lines, rows...)
		for round := range rounds {
			for i, c := range selected {
				got, err := runTrial(ctx, c)
				if err != nil {
					return lines, fmt.Errorf("%s: %s: %s: %w", s.name, job.name, c.name, err)
				}
				rows[i].samples = append(rows[i].samples, got)
				fmt.Fprintf(progress, "%s: %s: %s: round %d: %s\n", s.name, job.name, c.name, round+1, format(s.unit, got.value))
			}
		}
	}
	return lines, nil
}

func runTrial(ctx context.Context, c contender) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	return c.trial(ctx)
}

// of returns the line of a contender at a job, or nil.
func of(lines []*line, section, job, contender string) *line {
	for _, l := range lines {
		if l.section == section && l.job == job && l.contender == contender {
			return l
		}
	}
	return nil
}

// values are what the section is about.
func (l *line) values() []float64 {
	return l.each(func(s sample) float64 { return s.value })
}

// each picks one figure of every sample.
func (l *line) each(figure func(sample) float64) []float64 {
	values := make([]float64, len(l.samples))
	for i, s := range l.samples {
		values[i] = figure(s)
	}
	return values
}

// ratio compares a figure with that of another contender, round by round: the median of the quotients is not disturbed
// by what disturbs a round as a whole.
func (l *line) ratio(reference *line, figure func(sample) float64) float64 {
	if reference == nil {
		return 0
	}
	var quotients []float64
	a, b := l.each(figure), reference.each(figure)
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			quotients = append(quotients, a[i]/b[i])
		}
	}
	return median(quotients)
}
