package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Dump returns what pg_dump makes of a database. A test that has no pg_dump, or one that is older than a server from
// PGHUB_PG_BIN, is skipped as one without a server is.
func Dump(tb testing.TB, dsn string, options ...string) string {
	tb.Helper()
	out, err := exec.Command(client(tb, "pg_dump"), append(options, "-d", dsn)...).CombinedOutput()
	switch {
	case err == nil:
	case strings.Contains(string(out), "server version mismatch") && os.Getenv(envBin) != "":
		tb.Skip("NOT TESTED: pg_dump is older than the server")
	default:
		tb.Fatalf("pg_dump: %v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), "SET transaction_timeout = 0;", "") // of a newer pg_dump than the server is
}

// Restore runs what Dump returned, with psql.
func Restore(tb testing.TB, dsn, dump string) {
	tb.Helper()
	cmd := exec.Command(client(tb, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn)
	cmd.Stdin = strings.NewReader(dump)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("psql: %v\n%s", err, out)
	}
}

// client finds a client program of PostgreSQL.
func client(tb testing.TB, name string) string {
	tb.Helper()
	program, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		missing(tb, fmt.Errorf("%w: no %s: apt-get install postgresql-client", ErrUnavailable, name))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return program
}
