package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// impatient makes the tests of a package short: wrong code shows soon.
var impatient = map[string][]string{
	"internal/reliability": {"-soak.seed=1", "-soak.duration=4s", "-soak.faults=25", "-soak.hubs=2", "-fault.patience=10s"},
}

// repository returns its root folder.
func repository() (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/pghub/pghub")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// program is the test program of a package.
type program struct {
	root, folder string   // the package's folder, from the root
	tests        []string // all that there are
}

// programs returns the test programs of an area. None of them is built yet.
func (a *area) programs(root string) (programs []program, err error) {
	declaration := regexp.MustCompile(`(?m)^func (Test[^a-z\s(][^\s(]*)\(`)
	for _, folder := range a.packages {
		p := program{root: root, folder: folder}
		files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, match := range declaration.FindAllSubmatch(text, -1) {
				if name := string(match[1]); name != "TestMain" {
					p.tests = append(p.tests, name)
				}
			}
		}
		programs = append(programs, p)
	}
	return programs, nil
}

// holding returns the program that has a test.
func holding(programs []program, test string) (program, error) {
	var found []program
	for _, p := range programs {
		if slices.Contains(p.tests, test) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return program{}, fmt.Errorf("%s is a test of %d packages", test, len(found))
	}
	return found[0], nil
}

// build builds the program, with some files of the repository replaced.
func (p *program) build(folder, overlay string) (path string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(folder, "tests-"+strings.ReplaceAll(p.folder, "/", "-"))
	if _, err := os.Stat(path); err == nil {
		return path, nil // for another test
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", path, ".")
	cmd.Dir = filepath.Join(p.root, p.folder)
	workspace := "GOWORK=off" // the root module alone
	if p.nested() {
		workspace = "GOWORK="
	}
	cmd.Env = append(os.Environ(), workspace)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

// nested says whether the package is of another module than the root's.
func (p *program) nested() bool {
	for folder := p.folder; folder != "."; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(p.root, folder, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// run runs the tests that a pattern names.
func (p *program) run(path, pattern string, flags ...string) (string, error) {
	flags = append(append(flags, "-test.v", "-test.timeout=2m", "-test.run="+pattern), impatient[p.folder]...)
	cmd := exec.Command(path, flags...)
	cmd.Dir = filepath.Join(p.root, p.folder)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// unmutated runs every test that is to notice something, without anything to notice.
func unmutated(programs []program, folder string, chosen []mutant) error {
	for _, p := range programs {
		var tests []string
		for _, m := range chosen {
			for _, test := range m.tests {
				if slices.Contains(p.tests, test) {
					tests = append(tests, test)
				}
			}
		}
		if len(tests) == 0 {
			continue
		}
		path, err := p.build(folder, "")
		if err != nil {
			return err
		}
		slices.Sort(tests)
		if out, err := p.run(path, exactly(slices.Compact(tests)...)); err != nil {
			return fmt.Errorf("the tests do not pass without a mutation: %w\n%s", err, out)
		}
	}
	return nil
}

func exactly(tests ...string) string { return "^(" + strings.Join(tests, "|") + ")$" }

// trial is a mutant on its way, in a folder of its own.
type trial struct {
	mutant
	programs []program
	folder   string
	title    string
}

// check requires that every test notices that should.
func (t *trial) check() error {
	began := time.Now()
	overlay, err := t.apply(t.programs[0].root, t.folder)
	if err != nil {
		return fmt.Errorf("%s: %w", t.title, err)
	}
	defer func() { _ = os.RemoveAll(t.folder) }()
	for _, test := range t.tests { // each in a process of its own: some mutants do not survive the first
		p, err := holding(t.programs, test)
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		path, err := p.build(t.folder, overlay)
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		out, err := p.run(path, exactly(test))
		switch {
		case strings.Contains(out, "--- SKIP: "+test+" "):
			return fmt.Errorf("%s: %s does not run here:\n%s", t.title, test, out)
		case err == nil || !failed(out):
			return fmt.Errorf("%s: NOT CAUGHT by %s:\n%s", t.title, test, out)
		}
	}
	fmt.Printf("%-60s caught by %s in %v\n", t.title, strings.Join(t.tests, " and "), time.Since(began).Round(time.Second))
	return nil
}

func failed(out string) bool {
	return firstFailure.MatchString(out) || strings.Contains(out, "panic: ")
}

var (
	firstFailure = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	lastStart    = regexp.MustCompile(`(?m)^=== RUN +([^\s/]+)$`)
)

// find says which test notices first.
func (t *trial) find() error {
	overlay, err := t.apply(t.programs[0].root, t.folder)
	if err != nil {
		return fmt.Errorf("%s: %w", t.title, err)
	}
	defer func() { _ = os.RemoveAll(t.folder) }()
	for _, p := range t.programs {
		path, err := p.build(t.folder, overlay)
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		out, err := p.run(path, "^Test", "-test.short", "-test.failfast")
		if err == nil {
			continue
		}
		name := "?"
		if match := firstFailure.FindStringSubmatch(out); match != nil {
			name = match[1]
		} else if started := lastStart.FindAllStringSubmatch(out, -1); len(started) > 0 {
			name = started[len(started)-1][1] + " (which ended the program)"
		}
		fmt.Printf("%-60s noticed by %s of %s\n", t.title, name, p.folder)
		return nil
	}
	return fmt.Errorf("%s: NOBODY NOTICES", t.title)
}
