// Command mutants shows that the tests of internal/reliability can fail: it breaks the hub in one way after another, each a
// small replacement in a copy of a source file of the root package, and runs the tests that must notice.
//
//	go run ./internal/mutants            # all of them: some minutes
//	go run ./internal/mutants -run lag   # those whose name matches
//
// It fails if a wrong hub passes, if the right one does not, and if a text to be replaced is no longer there.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// impatient makes tests short: a wrong hub shows soon.
var impatient = []string{
	"-soak.seed=1", "-soak.duration=4s", "-soak.faults=25", "-soak.hubs=2", "-fault.patience=10s", "-test.timeout=2m",
}

func main() {
	pattern := flag.String("run", "", "only mutants whose name matches")
	parallel := flag.Int("p", 2, "mutants to test at the same time")
	flag.Parse()
	if err := run(*pattern, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(pattern string, parallel int) error {
	matches, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "pghub-mutants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()

	var chosen []mutant
	for _, m := range mutants {
		if matches.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	began := time.Now()
	if err := checkUnmutated(root, folder, chosen); err != nil {
		return err
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(parallel, 1))
	errs := make([]error, len(chosen))
	for i, m := range chosen {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = check(root, filepath.Join(folder, fmt.Sprint(i)), m)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d mutants, all caught, in %v\n", len(chosen), time.Since(began).Round(time.Second))
	return nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/pghub/pghub").Output()
	return strings.TrimSpace(string(out)), err
}

// checkUnmutated runs every test that is to notice something, without anything to notice.
func checkUnmutated(root, folder string, chosen []mutant) error {
	var tests []string
	for _, m := range chosen {
		tests = append(tests, m.tests...)
	}
	slices.Sort(tests)
	program, err := build(root, folder, "")
	if err != nil {
		return err
	}
	if out, err := test(root, program, slices.Compact(tests)...); err != nil {
		return fmt.Errorf("the tests do not pass without a mutation: %w\n%s", err, out)
	}
	return nil
}

// check tests one mutant, in a folder of its own.
func check(root, folder string, m mutant) error {
	began := time.Now()
	overlay, err := m.apply(root, folder)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	program, err := build(root, folder, overlay)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	for _, name := range m.tests { // each in a process of its own: some mutants do not survive the first
		out, err := test(root, program, name)
		switch {
		case strings.Contains(out, "--- SKIP: "+name):
			return fmt.Errorf("%s: %s does not run here:\n%s", m.name, name, out)
		case err == nil || !strings.Contains(out, "--- FAIL: "+name) && !strings.Contains(out, "panic: "):
			return fmt.Errorf("%s: NOT CAUGHT by %s:\n%s", m.name, name, out)
		}
	}
	fmt.Printf("%-50s caught by %s in %v\n", m.name, strings.Join(m.tests, " and "), time.Since(began).Round(time.Second))
	return nil
}

// tested is the package of the tests.
const tested = "internal/reliability"

// build makes the test program, with some files of the root package replaced.
func build(root, folder, overlay string) (program string, err error) {
	program = filepath.Join(folder, "tests")
	cmd := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, "./"+tested)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off") // the root module alone
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
}

// test runs tests.
func test(root, program string, names ...string) (string, error) {
	cmd := exec.Command(program, append([]string{"-test.v", "-test.run=^(" + strings.Join(names, "|") + ")$"}, impatient...)...)
	cmd.Dir = filepath.Join(root, tested)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// apply writes the mutated files to a folder, and the list of what they replace.
func (m mutant) apply(root, folder string) (overlay string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	texts := map[string]string{}
	for _, e := range m.edits {
		text, read := texts[e.file]
		if !read {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("the text to be replaced is %d times in %s: %q", n, e.file, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		path := filepath.Join(folder, file)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = path
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o644)
}
