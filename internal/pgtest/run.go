package pgtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Program builds the program of a folder, and returns a function that runs it to its end on a database, and returns what it wrote.
func Program(t testing.TB, folder string) (run func(dsn string) (stdout, stderr string)) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program.exe") // Windows needs a suffix, the others do not mind
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, folder).CombinedOutput()
	require.NoError(t, err, string(out))
	return func(dsn string) (string, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, program)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		require.NoError(t, err, "%s%s", &stdout, &stderr)
		return stdout.String(), stderr.String()
	}
}
