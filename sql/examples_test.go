package sql

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the output of examples/*.sql to examples/*.out")

var backend = regexp.MustCompile(` received from server process with PID \d+\.`)

// The examples print what their .out files say, and leave nothing behind.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b := setUp(t)
			me := one[string](b, "SELECT session_user::text")
			for range 2 {
				out := backend.ReplaceAllString(psql(t, b.dsn, file), "")
				out = strings.ReplaceAll(out, `"who":"`+me+`"`, `"who":"me"`)
				out = strings.ReplaceAll(out, "|"+me+"|", "|me|")
				golden := strings.TrimSuffix(file, ".sql") + ".out"
				if *update {
					require.NoError(t, os.WriteFile(golden, []byte(out), 0o644))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err)
				require.Equal(t, string(want), out)
			}
			require.Zero(t, one[int](b, "SELECT count(*) FROM pghub.watches"))
		})
	}
}
