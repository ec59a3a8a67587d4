package bridge_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// The example runs to its end, twice, and leaves nothing behind.
func TestExampleProgram(t *testing.T) {
	run := pgtest.Program(t, "./examples/webhook")
	dsn := pgtest.Database(t)
	for range 2 {
		out, log := run(dsn)
		require.Regexp(t, regexp.MustCompile(`^19 orders arrived, in order; 3 were sent again, 1 is parked
webhook: 127\.0\.0\.1:\d+ answers 422 Unprocessable Entity: "we do not deliver order 13"
$`), out)
		require.Contains(t, log, "answers 503")
	}
	var schemas int
	require.NoError(t, pgtest.Conn(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname IN ('pghub', 'pghub_example')`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}
