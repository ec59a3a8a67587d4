package livecache

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// The example runs to its end, twice, over nonsense on its topic and over a lost connection, and leaves nothing behind.
func TestExampleProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "cache.exe") // Windows needs a suffix, the others do not mind
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./examples/cache").CombinedOutput()
	require.NoError(t, err, string(out))
	dsn := pgtest.Database(t)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), pgtest.Patience)
		cmd := exec.CommandContext(ctx, program)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn)
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		err := cmd.Run()
		cancel()
		require.NoError(t, err, "%s%s", &out, &log)
		require.Regexp(t, regexp.MustCompile(`^cache 1 equals the table: 193 rows, after \d+ events and 1 reconnects
cache 2 equals the table: 193 rows, after 137 events and 0 reconnects
the price of item 255 is 2552
$`), out.String())
		require.Contains(t, log.String(), `everything is dropped: pghub: undecodable payload on topic "prices"`)
	}
	var schemas int
	require.NoError(t, pgtest.Conn(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'pghub_example'`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}
