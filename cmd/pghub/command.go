package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v3"
)

// newCommand is the program with all its subcommands. The library is urfave/cli because its flags take their values from
// flag, environment and file in one chain, and it brings no other module along.
func newCommand(stdout, stderr io.Writer) *cli.Command {
	file := &configFile{}
	return &cli.Command{
		Name:    "pghub",
		Usage:   "PostgreSQL LISTEN/NOTIFY for shells, servers and browsers",
		Version: version(),
		Description: "Every flag may also be set in the environment, or in a TOML file named with --config: global ones\n" +
			"by their name, those of a subcommand under its name ([serve]). Flags win over the environment, and that\n" +
			"over the file.",
		Writer:    stdout,
		ErrWriter: stderr,
		Flags: []cli.Flag{
			// First: the others look into the file that it names.
			&cli.StringFlag{Name: "config", Usage: "read settings from this TOML `FILE`", Sources: cli.EnvVars("PGHUB_CONFIG"), Destination: &file.path, TakesFile: true},
			&cli.StringFlag{Name: "database", Aliases: []string{"d"}, Usage: "`DSN` of the database, as a URL or as keywords", Sources: file.sources("database", "DATABASE_URL")},
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", Value: "info", Sources: file.sources("log-level")},
			&cli.StringFlag{Name: "log-format", Usage: "text or json", Value: "text", Sources: file.sources("log-format")},
		},
		Before: func(ctx context.Context, cmd *cli.Command) (context.Context, error) { return ctx, file.check(cmd) },
		Commands: []*cli.Command{
			serveCommand(file, stderr),
		},
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run reports it
	}
}

// newLogger logs to w as the global flags say.
func newLogger(cmd *cli.Command, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmd.String("log-level"))); err != nil {
		return nil, fmt.Errorf("--log-level is debug, info, warn or error, not %q", cmd.String("log-level"))
	}
	options := &slog.HandlerOptions{Level: level}
	switch cmd.String("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format is text or json, not %q", cmd.String("log-format"))
}

// database is the DSN that was given.
func database(cmd *cli.Command) (string, error) {
	dsn := cmd.String("database")
	if strings.TrimSpace(dsn) == "" {
		return "", errors.New("no database: set --database or DATABASE_URL")
	}
	return dsn, nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
