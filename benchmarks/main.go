// Command benchmarks measures pghub and its peers side by side, and prints the results as Markdown tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
)

type options struct {
	only   *regexp.Regexp
	rounds int
	scale  float64
	quiet  bool
	dsn    string
	plots  string
	cpu    string
	mem    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, parseFlags()); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func parseFlags() (o options) {
	flag.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	flag.Float64Var(&o.scale, "scale", 1, "multiplies the number of events, or the time, of each trial")
	flag.BoolVar(&o.quiet, "quiet", false, "show no progress on standard error")
	flag.StringVar(&o.dsn, "dsn", "", "measure stream commits on this server, in a database whose table people it replaces")
	flag.StringVar(&o.plots, "plots", "", "write the plots to this folder")
	flag.StringVar(&o.cpu, "cpuprofile", "", "write a CPU profile to this file")
	flag.StringVar(&o.mem, "memprofile", "", "write a profile of all allocations to this file")
	only := flag.String("only", "", "measure only what matches this regular expression; names look like receive/64 B/pghub")
	flag.Parse()
	o.only = regexp.MustCompile(*only)
	return o
}

func run(ctx context.Context, o options) error {
	stopProfiles, err := startProfiles(o.cpu, o.mem)
	if err != nil {
		return err
	}
	db, err := startDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = db.server.Close() }()

	lab := newLab(o.scale, o.dsn)
	defer lab.close()

	var progress io.Writer = os.Stderr
	if o.quiet {
		progress = io.Discard
	}
	fmt.Println(describeMachine(ctx, db))
	var all []*line
	var faults []error
	for _, s := range sections(db, lab, o.scale) {
		lines, err := s.run(ctx, o.rounds, o.only, progress)
		if len(lines) > 0 {
			s.writeTable(os.Stdout, lines)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the other sections are worth having all the same
			fmt.Fprintln(progress, err)
			faults = append(faults, err)
		}
		all = append(all, lines...)
	}
	writeTargets(os.Stdout, append(targets, streamTargets...), all)
	if o.plots != "" {
		faults = append(faults, writePlots(o.plots, all))
	}
	return errors.Join(append(faults, stopProfiles())...)
}

func sections(db *database, lab *lab, scale float64) []*section {
	all := []*section{receiveSection(db, scale), channelsSection(db, scale)}
	all = append(all, fanOutSections(scale)...)
	all = append(all, stuckSections(scale)...)
	all = append(all, notifySection(db, scale), endToEndSection(db, scale), listenSection(db), reconnectSection(db))
	return append(all, streamSections(lab)...)
}
