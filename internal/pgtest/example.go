package pgtest

import (
	"context"
	"flag"
	"fmt"
	"testing"
)

// ServerForExamples leaves the examples of a package out, which cannot skip themselves, where tests are skipped for lack
// of a server. A test calls it; tests run before examples.
func ServerForExamples(t *testing.T) {
	defer func() {
		if t.Skipped() {
			_ = flag.Set("test.skip", "^Example") // the flag exists
		}
	}()
	Shared(t)
}

// Example returns the testing.TB that an Example function does not have, as far as this package needs it. end does what was
// left for the end of the test.
func Example() (tb testing.TB, end func()) {
	example := &exampleTB{}
	return example, example.end
}

type exampleTB struct {
	testing.TB // for the method that keeps others from implementing it; nil
	cleanups   []func()
}

func (tb *exampleTB) Helper()                  {}
func (tb *exampleTB) Context() context.Context { return context.Background() }
func (tb *exampleTB) Cleanup(f func())         { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) Error(args ...any)        { panic(fmt.Sprint(args...)) }
func (tb *exampleTB) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

func (tb *exampleTB) Skipf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (tb *exampleTB) end() {
	for len(tb.cleanups) > 0 {
		last := len(tb.cleanups) - 1
		f := tb.cleanups[last]
		tb.cleanups = tb.cleanups[:last]
		f()
	}
}
