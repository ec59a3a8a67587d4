package pgtest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	modulePath = "github.com/pghub/pghub"

	// leakTimeout is how long goroutines that are about to end are waited for.
	leakTimeout = 30 * time.Second
)

// Main is the body of a package's TestMain. It runs the tests, closes the shared server, fails if a goroutine has
// outlived the tests, and exits.
func Main(m *testing.M) {
	before := goroutines()
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code == 0 {
		if left := awaitEnd(before, isOurs, leakTimeout); len(left) > 0 {
			fmt.Fprintln(os.Stderr, leakReport(left))
			code = 1
		}
	}
	os.Exit(code)
}

// CheckLeaks fails the test if goroutines of this module that it has started outlive it. They are told from others
// by their age and their stack, so it is not for tests that run in parallel. Called first, it looks last, after
// all other cleanups.
func CheckLeaks(tb testing.TB) {
	tb.Helper()
	before := goroutines()
	tb.Cleanup(func() {
		if left := awaitEnd(before, isOfModule, leakTimeout); len(left) > 0 {
			tb.Error(leakReport(left))
		}
	})
}

// isOurs says whether a goroutine that is left at the end of a process is one too many: those of the Go runtime,
// of the testing package and of the container library's own clean-up are not.
func isOurs(stack string) bool {
	for _, other := range []string{"os/signal.", "runtime.", "testing.", "testcontainers-go.(*Reaper)"} {
		if strings.Contains(stack, "\n"+other) || strings.Contains(stack, "created by "+other) {
			return false
		}
	}
	return true
}

// isOfModule says whether a goroutine runs code of this module. The one that waits for a server process does not
// count: the shared server may have started within the test, and outlives it.
func isOfModule(stack string) bool {
	return strings.Contains(stack, modulePath) && !strings.Contains(stack, "pgtest.(*process).supervise")
}

// awaitEnd waits for the end of all goroutines that were not there before and that count. It returns the stacks of
// those that still run after the timeout.
func awaitEnd(before map[string]string, counts func(stack string) bool, timeout time.Duration) []string {
	deadline := time.Now().Add(timeout) // a context's timer would be one of the goroutines
	var left []string
	_ = poll(context.Background(), func() (bool, error) { // the answer is in left
		left = nil
		for id, stack := range goroutines() {
			if _, old := before[id]; !old && counts(stack) {
				left = append(left, stack)
			}
		}
		return len(left) == 0 || time.Now().After(deadline), nil
	})
	return left
}

// goroutines returns the stacks of all goroutines but the caller's, by their number.
func goroutines() map[string]string {
	text := make([]byte, 1<<16)
	n := runtime.Stack(text, true)
	for n == len(text) {
		text = make([]byte, 2*len(text))
		n = runtime.Stack(text, true)
	}
	stacks := map[string]string{}
	for _, stack := range strings.Split(string(text[:n]), "\n\n")[1:] { // the caller's comes first
		fields := strings.Fields(stack) // goroutine 7 [select]: …
		if len(fields) > 1 {
			stacks[fields[1]] = stack
		}
	}
	return stacks
}

func leakReport(stacks []string) string {
	return fmt.Sprintf("pgtest: %d goroutines have not ended:\n\n%s", len(stacks), strings.Join(stacks, "\n\n"))
}
