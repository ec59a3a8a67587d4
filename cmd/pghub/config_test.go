package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

// settings parses arguments and returns what a function reads from serve's flags.
func settings[T any](t *testing.T, read func(*cli.Command) T, args ...string) T {
	t.Helper()
	var value T
	root := newCommand(io.Discard, io.Discard)
	root.Commands[0].Action = func(_ context.Context, cmd *cli.Command) error {
		value = read(cmd)
		return nil
	}
	require.NoError(t, root.Run(t.Context(), append([]string{"pghub"}, args...)))
	return value
}

func TestPrecedence(t *testing.T) {
	for _, name := range []string{"DATABASE_URL", "PGHUB_CONFIG", "PGHUB_TOPICS", "PGHUB_MAX_TOPICS", "PGHUB_LOG_LEVEL"} {
		t.Setenv(name, "")
		require.NoError(t, os.Unsetenv(name))
	}
	file := filepath.Join(t.TempDir(), "pghub.toml")
	require.NoError(t, os.WriteFile(file, []byte(`
database = "file"
log-level = "warn"
[serve]
topics = ["a", "b_*"]
max-topics = 3
grace = "3s"
no-viewer = true
`), 0o600))
	text := func(name string) func(*cli.Command) string {
		return func(cmd *cli.Command) string { return cmd.String(name) }
	}
	topics := func(cmd *cli.Command) []string { return cmd.StringSlice("topics") }
	limit := func(cmd *cli.Command) int { return cmd.Int("max-topics") }

	require.Equal(t, "info", settings(t, text("log-level"), "serve"), "default")
	require.Equal(t, []string{"a", "b_*"}, settings(t, topics, "--config", file, "serve"), "file")
	require.Equal(t, 3, settings(t, limit, "--config", file, "serve"))
	require.Equal(t, "3s", settings(t, func(cmd *cli.Command) string { return cmd.Duration("grace").String() }, "--config", file, "serve"))
	require.True(t, settings(t, func(cmd *cli.Command) bool { return cmd.Bool("no-viewer") }, "--config", file, "serve"))
	require.Equal(t, "file", settings(t, text("database"), "--config", file, "serve"))

	t.Setenv("PGHUB_CONFIG", file)
	t.Setenv("DATABASE_URL", "environment")
	t.Setenv("PGHUB_TOPICS", "c,d")
	t.Setenv("PGHUB_MAX_TOPICS", "4")
	require.Equal(t, "warn", settings(t, text("log-level"), "serve"), "the file is named by the environment")
	require.Equal(t, "environment", settings(t, text("database"), "serve"), "environment over file")
	require.Equal(t, []string{"c", "d"}, settings(t, topics, "serve"))
	require.Equal(t, 4, settings(t, limit, "serve"))

	require.Equal(t, "flag", settings(t, text("database"), "--database", "flag", "serve"), "flag over environment")
	require.Equal(t, "flag", settings(t, text("database"), "serve", "--database", "flag"), "at either place")
	require.Equal(t, []string{"e", "f", "g"}, settings(t, topics, "serve", "--topics", "e,f", "--topics", "g"))
	require.Equal(t, 5, settings(t, limit, "serve", "--max-topics=5"))
}
