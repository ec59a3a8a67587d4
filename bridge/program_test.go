package bridge_test

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

// The example runs to its end, twice, and leaves nothing behind.
func TestExampleProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "webhook.exe") // Windows needs a suffix, the others do not mind
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./examples/webhook").CombinedOutput()
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
		require.Regexp(t, regexp.MustCompile(`^19 orders arrived, in order; 3 were sent again, 1 is parked
webhook: 127\.0\.0\.1:\d+ answers 422 Unprocessable Entity: "we do not deliver order 13"
$`), out.String())
		require.Contains(t, log.String(), "answers 503")
	}
	var schemas int
	require.NoError(t, pgtest.Conn(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname IN ('pghub', 'pghub_example')`).Scan(&schemas))
	require.Zero(t, schemas, "it leaves nothing behind")
}
