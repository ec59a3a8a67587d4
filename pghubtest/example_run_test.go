package pghubtest_test

import (
	"flag"
	"testing"
)

// test gives an example the *testing.T of a test, which it then is. Nothing but the example itself may write to its output.
func test(f func(t *testing.T)) {
	for name, value := range map[string]string{"test.v": "false", "test.count": "1", "test.run": "", "test.skip": ""} {
		if given := flag.Lookup(name); given != nil {
			before := given.Value.String()
			defer func() { _ = flag.Set(name, before) }() // it has had this value
			_ = flag.Set(name, value)                     // it is one for this flag
		}
	}
	all := func(string, string) (bool, error) { return true, nil }
	if !testing.RunTests(all, []testing.InternalTest{{Name: "Example", F: f}}) {
		panic("the example has failed")
	}
}
