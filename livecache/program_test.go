package livecache

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// The example runs to its end, twice, over nonsense on its topic and over a lost connection, and leaves nothing behind.
func TestExampleProgram(t *testing.T) {
	run := pgtest.Program(t, "./examples/cache")
	dsn := pgtest.Database(t)
	for range 2 {
		out, log := run(dsn)
		require.Regexp(t, regexp.MustCompile(`^cache 1 equals the table: 193 rows, after \d+ events and 1 reconnects
cache 2 equals the table: 193 rows, after 137 events and 0 reconnects
the price of item 255 is 2552
$`), out)
		require.Contains(t, log, `everything is dropped: pghub: undecodable payload on topic "prices"`)
	}
	var schemas int
	require.NoError(t, pgtest.Conn(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'pghub_example'`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}
