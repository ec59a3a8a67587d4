package main

import (
	"path/filepath"
	"regexp"
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
