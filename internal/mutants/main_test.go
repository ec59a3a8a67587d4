package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutantsApply: every text to be replaced is there, once, and every test that is named.
func TestMutantsApply(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	tests := testNames(t, root)
	names := map[string]bool{}
	for _, m := range mutants {
		require.False(t, names[m.name], "%s stands twice", m.name)
		names[m.name] = true
		_, err := m.apply(root, t.TempDir())
		require.NoError(t, err, m.name)
		require.NotEmpty(t, m.tests, m.name)
		for _, name := range m.tests {
			require.Contains(t, tests, name, m.name)
		}
	}
}

// testNames returns the tests that may be named.
func testNames(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(root, tested, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			names[string(match[1])] = true
		}
	}
	return names
}
