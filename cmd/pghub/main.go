// Command pghub is pghub on the command line: PostgreSQL LISTEN/NOTIFY for shells, servers and browsers.
//
// pghub serve puts events on WebSockets and Server-Sent Events; see README.md and pghub --help.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

func main() {
	// Most of what a server allocates waits for its clients for a moment. To collect it twice as early as Go does saves a tenth of the
	// memory in a burst to 1,000 clients, for a tenth more of the processor.
	if _, told := os.LookupEnv("GOGC"); !told {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal asks for an orderly end; a second one has its usual effect.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// told is what an error says, without the name of the library in it: the program's stands before it.
func told(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "pghub: "), ": pghub: ", ": ")
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if err := newCommand(stdout, stderr).Run(ctx, args); err != nil {
		_, _ = fmt.Fprintf(stderr, "pghub: %s\n", told(err)) // nowhere else to say it
		return 1
	}
	return 0
}
