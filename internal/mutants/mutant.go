package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// area is a part of the repository with the tests that watch over it.
type area struct {
	name     string
	folder   string   // of the files that its mutants change, from the root of the repository
	packages []string // whose tests may notice, as folders from the root of the repository
	mutants  []mutant
}

// mutant is wrong code.
type mutant struct {
	name   string
	edits  []edit
	tests  []string // each of which must fail
	sample bool     // run where there is no time for all of them
}

// edit replaces a text that stands once in a file of the area.
type edit struct {
	file, old, new string
}

var areas = []area{coreArea, publishingArea, codecArea, wireArea, sqlArea, streamArea, gatewayArea, livecacheArea, bridgeArea, prometheusArea, otelArea, commandArea}

// one makes a mutant of one edit. The tests' names stand in one text, with blanks between them.
func one(name, file, old, replacement, tests string) mutant {
	return mutant{name: name, edits: []edit{{file, old, replacement}}, tests: strings.Fields(tests)}
}

// sampled puts a mutant into the sample.
func sampled(m mutant) mutant {
	m.sample = true
	return m
}

// choose returns the mutants to be tried.
func (a *area) choose(pattern *regexp.Regexp, all bool) (chosen []mutant) {
	for _, m := range a.mutants {
		if (all || m.sample) && pattern.MatchString(a.name+"/"+m.name) {
			m.edits = slices.Clone(m.edits)
			for i := range m.edits {
				m.edits[i].file = filepath.Join(a.folder, m.edits[i].file)
			}
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// apply writes the changed files to a folder, and the list of what they replace, which the go command takes as -overlay.
func (m *mutant) apply(root, folder string) (overlay string, err error) {
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
		path := filepath.Join(folder, strings.ReplaceAll(filepath.ToSlash(file), "/", "-"))
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
