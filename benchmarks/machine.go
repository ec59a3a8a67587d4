package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// describeMachine says in a line what was measured on.
func describeMachine(ctx context.Context, db *database) string {
	return fmt.Sprintf("%s, %d CPUs (%s), %s %s/%s, PostgreSQL %s\n", processorName(), runtime.NumCPU(), memory(),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, serverVersion(ctx, db.dsn))
}

// processorName and memory ask Linux; elsewhere they do not know.
func processorName() string { return procField("/proc/cpuinfo", "model name", "processor unknown") }

func memory() string {
	kB := 0
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemTotal", ""), "%d kB", &kB); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%d GB of memory", (kB+1<<19)>>20)
}

func procField(file, name, otherwise string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return otherwise
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

func serverVersion(ctx context.Context, dsn string) (version string) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return "unknown"
	}
	return version
}
