// Package docs_test holds README.md and the pages of this folder to the code: their links, their programs, their SQL, and
// what they name.
package docs_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/pghub/pghub/internal/pgtest"
)

// The tests look at the repository from its root.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pgtest.Main(m)
}
