// Command mutants shows that the tests can fail: it breaks the code in one way after another, each a small replacement in
// a copy of a source file, and runs the tests that must notice.
//
//	go run ./internal/mutants                  # a sample of all areas: some minutes
//	go run ./internal/mutants -all             # every one
//	go run ./internal/mutants -run gateway/    # those whose area/name matches, be they in the sample or not
//	go run ./internal/mutants -run x -find     # which tests notice, of all there are
//
// It fails if broken code passes, if the right one does not, and if a text to be replaced is no longer there.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

func main() {
	pattern := flag.String("run", "", "only mutants whose area/name matches")
	all := flag.Bool("all", false, "all mutants, not a sample")
	find := flag.Bool("find", false, "run all tests of the area and say which one is the first to fail")
	parallel := flag.Int("p", 2, "mutants to test at the same time")
	flag.Parse()
	if err := run(*pattern, *all || *pattern != "", *find, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(pattern string, all, find bool, parallel int) error {
	matches, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	root, err := repository()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "pghub-mutants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()

	began := time.Now()
	var trials []trial
	for _, a := range areas {
		chosen := a.choose(matches, all)
		if len(chosen) == 0 {
			continue
		}
		programs, err := a.programs(root)
		if err != nil {
			return err
		}
		for i, m := range chosen {
			trials = append(trials, trial{m, programs, filepath.Join(folder, a.name, fmt.Sprint(i)), a.name + "/" + m.name})
		}
		if find {
			continue
		}
		if err := unmutated(programs, filepath.Join(folder, a.name, "unmutated"), chosen); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	errs := make([]error, len(trials))
	slots := make(chan struct{}, max(parallel, 1))
	var wg sync.WaitGroup
	for i, t := range trials {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if find {
				errs[i] = t.find()
			} else {
				errs[i] = t.check()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d mutants, all caught, in %v\n", len(trials), time.Since(began).Round(time.Second))
	return nil
}
