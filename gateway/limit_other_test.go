//go:build !unix

package gateway_test

import "testing"

// openFiles is how many files this process may have open: more than any test wants.
func openFiles(*testing.T) int { return 1 << 20 }
