package pgtest

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

// A source is where a server comes from.
type source int

const (
	sourceNone source = iota
	sourceDSN
	sourceBinaries
	sourceContainer
)

// chooseSource holds the order of the sources. Whether a Docker engine answers is asked only if it matters.
func chooseSource(dsn, bin string, engine func() bool) source {
	switch {
	case dsn != "":
		return sourceDSN
	case bin != "":
		return sourceBinaries
	case engine():
		return sourceContainer
	default:
		return sourceNone
	}
}

// Open returns the server that DATABASE_URL names, else a new one as [Start] does with default options.
func Open(ctx context.Context) (*Server, error) {
	return open(ctx, firstSet(envDSN), Options{})
}

// Start returns a new server, from installed binaries or else in a container. A container knows nothing of the
// options HBA and TLS, and refuses them. If there is neither, the error is [ErrUnavailable].
// ctx bounds the start; the server goes on until [Server.Close] or the end of this process.
func Start(ctx context.Context, opts Options) (*Server, error) {
	return open(ctx, "", opts)
}

func open(ctx context.Context, dsn string, opts Options) (*Server, error) {
	var bin string
	if dsn == "" {
		var err error
		if bin, err = opts.binaries(); err != nil {
			return nil, err
		}
	}
	switch chooseSource(dsn, bin, func() bool { return engineAnswers(ctx) }) {
	case sourceDSN:
		return attach(ctx, dsn, nil)
	case sourceBinaries:
		return startBinaries(ctx, bin, opts)
	case sourceContainer:
		return startContainer(ctx, opts)
	default:
		return nil, ErrUnavailable
	}
}

// attach returns a server that runs already; end is what Close calls.
func attach(ctx context.Context, dsn string, end func() error) (*Server, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return &Server{dsn: dsn, version: version, end: end}, nil
}

// startBinaries makes a server from nothing.
func startBinaries(ctx context.Context, bin string, opts Options) (*Server, error) {
	version, err := binaryVersion(ctx, bin)
	if err != nil {
		return nil, err
	}
	local, err := newInstance(ctx, bin)
	if err != nil {
		return nil, err
	}
	local.env = opts.Env
	if err = local.initialise(ctx, opts); err == nil {
		err = local.startAnywhere(ctx)
	}
	if err != nil {
		_ = local.remove() // the reason is in err
		return nil, err
	}
	return newServer(local, version, opts.TLS != nil), nil
}

// firstSet returns the value of the first of these environment variables that has one.
func firstSet(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}
