package docs_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

// blocks returns what README.md has in code blocks of a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := document{"README.md", string(text)}.blocks(language)
	require.NotEmpty(t, found)
	return found
}

// compile builds a program of one file, outside of this folder and with this module.
func compile(t *testing.T, source string) (program string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	program = filepath.Join(dir, "program.exe") // Windows needs a suffix, the others do not mind
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, file).CombinedOutput()
	require.NoError(t, err, "%s\n%s", out, source)
	return program
}

// The first program, fed with the first SQL, prints the first text.
func TestReadmeProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: there are no signals to stop a process gracefully")
	}
	dsn := pgtest.Database(t)
	conn := pgtest.Conn(t, dsn)
	program := compile(t, blocks(t, "go")[0])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var printed strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		switch {
		case lines.Text() == "-- subscribe":
			_, err := conn.Exec(ctx, blocks(t, "sql")[0])
			require.NoError(t, err)
		case strings.Contains(lines.Text(), "key=[42]"):
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
		}
	}
	require.NoError(t, cmd.Wait())
	require.Equal(t, blocks(t, "text")[0], printed.String())
}

func TestReadmeSQL(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	var got []string
	_, err = hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			got = append(got, fmt.Sprint(ev.Topic, ev.Key, string(ev.Value)))
		}
	}, &pghub.ConsumerConfig{Topics: []string{"orders", "people"}})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))

	for _, block := range blocks(t, "sql") {
		_, err := pool.Exec(t.Context(), block)
		require.NoError(t, err, block)
	}
	require.NoError(t, hub.Stop(t.Context()))
	require.Equal(t, []string{
		`orders[7]{"status":"sold"}`,
		`people[7]{"op":"insert","schema":"public","table":"people","seq":1,"id":{"id":7},"row":{"id":7,"name":"Ada"}}`,
		`people[7]{"hello":"Ada"}`,
	}, got)
}
