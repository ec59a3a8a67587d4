package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed stream_slow/flush.c
var flushSource []byte

// slowness is how much longer a flush takes with the library.
const slowness = time.Millisecond

// canSlowDown says whether a disk can be made slower here: that takes Linux's loader and a C compiler.
func canSlowDown() bool {
	_, err := exec.LookPath("cc")
	return err == nil && runtime.GOOS == "linux"
}

// buildSlowFlush makes a library that makes flushes take a millisecond longer, in a folder of its own that everybody may
// read: the server may run as another user.
func buildSlowFlush(ctx context.Context) (library string, remove func(), err error) {
	folder, err := os.MkdirTemp("", "pghub-benchmarks-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(folder) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	source := filepath.Join(folder, "flush.c")
	library = filepath.Join(folder, "flush.so")
	if err := os.WriteFile(source, flushSource, 0o600); err != nil {
		return "", nil, err
	}
	if out, err := exec.CommandContext(ctx, "cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl").CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("cc: %w: %s", err, out)
	}
	return library, remove, errors.Join(os.Chmod(folder, 0o755), os.Chmod(library, 0o755)) //nolint:gosec // nothing secret
}

// checkSlow makes sure that commits of a server are slow: a loader that cannot load a library goes on without.
func checkSlow(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "CREATE TABLE flushed (n integer)"); err != nil {
		return err
	}
	const commits = 10
	start := time.Now()
	for n := range commits {
		if _, err := conn.Exec(ctx, "INSERT INTO flushed VALUES ($1)", n); err != nil {
			return err
		}
	}
	if took := time.Since(start); took < commits*slowness {
		return fmt.Errorf("%d commits took %v: the library that makes flushes slower is not in use", commits, took)
	}
	_, err = conn.Exec(ctx, "DROP TABLE flushed")
	return err
}
