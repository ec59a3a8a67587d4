package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMutantsApply: every text to be replaced is there, once, and so is every test that is named.
func TestMutantsApply(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, a := range areas {
		programs, err := a.programs(root)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, m := range a.choose(regexp.MustCompile(""), true) {
			assert.False(t, names[m.name], "%s/%s stands twice", a.name, m.name)
			names[m.name] = true
			_, err := m.apply(root, t.TempDir())
			assert.NoError(t, err, "%s/%s", a.name, m.name)
			assert.NotEmpty(t, m.tests, "%s/%s", a.name, m.name)
			for _, test := range m.tests {
				_, err := holding(programs, test)
				assert.NoError(t, err, "%s/%s", a.name, m.name)
			}
		}
	}
}

// TestTheyAreCounted: docs/reliability.md says how many there are.
func TestTheyAreCounted(t *testing.T) {
	text, err := os.ReadFile("../../docs/reliability.md")
	require.NoError(t, err)
	all := 0
	for _, a := range areas {
		row := fmt.Sprintf("\n| %s | %d | ", a.name, len(a.mutants))
		assert.True(t, strings.Contains(string(text), row), "docs/reliability.md lacks %q", row)
		all += len(a.mutants)
	}
	assert.True(t, strings.Contains(string(text), fmt.Sprintf("all %d,", all)), "docs/reliability.md does not say that there are %d", all)
}
