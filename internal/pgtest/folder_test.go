package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stale makes a folder as a process leaves it that was killed.
func stale(t *testing.T, base string, lock string) string {
	path := filepath.Join(base, folderPrefix+"1")
	require.NoError(t, os.MkdirAll(filepath.Join(path, dataName), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(path, lockName), []byte(lock), 0o600))
	return path
}

func TestSweepRemovesStaleFolder(t *testing.T) {
	base := t.TempDir()
	path := stale(t, base, "1\n")
	other := filepath.Join(base, "other")
	require.NoError(t, os.Mkdir(other, 0o700))
	sweep(t.Context(), base)
	require.NoDirExists(t, path)
	require.DirExists(t, other)
}

func TestSweepLeavesFolderInUse(t *testing.T) {
	base := t.TempDir()
	used, err := newFolder(base, nil)
	require.NoError(t, err)
	sweep(t.Context(), base)
	require.DirExists(t, used.path)
	require.NoError(t, used.lock.Close())
	sweep(t.Context(), base)
	require.NoDirExists(t, used.path)
}

func TestSweepLeavesNewborn(t *testing.T) {
	base := t.TempDir()
	path := stale(t, base, "") // no owner yet
	sweep(t.Context(), base)
	require.DirExists(t, path)
	old := time.Now().Add(-2 * newbornAge)
	require.NoError(t, os.Chtimes(path, old, old))
	sweep(t.Context(), base)
	require.NoDirExists(t, path)
}

func TestSweepKillsNoStranger(t *testing.T) {
	base := t.TempDir()
	path := stale(t, base, "1\n")
	// The number of the server that was is now that of this test.
	pid := fmt.Sprintf("%d\n", os.Getpid())
	require.NoError(t, os.WriteFile(filepath.Join(path, dataName, "postmaster.pid"), []byte(pid), 0o600))
	sweep(t.Context(), base)
	require.NoDirExists(t, path)
}

// TestKilledOwner kills a process that has a server: the server ends too, and what is left is swept.
func TestKilledOwner(t *testing.T) {
	if bin, err := (Options{}).binaries(); err != nil || bin == "" {
		missing(t, ErrUnavailable)
	}
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), envOwner+"=1")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	t.Cleanup(func() { _ = owner.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	var postmaster int
	var path string
	_, err = fmt.Sscan(line, &postmaster, &path)
	require.NoError(t, err)

	require.True(t, alive(postmaster))
	sweep(t.Context(), filepath.Dir(path))
	require.True(t, alive(postmaster), "a server whose owner lives is left alone")

	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()
	if runtime.GOOS != "linux" { // elsewhere it goes on until the sweep
		sweep(t.Context(), filepath.Dir(path))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, poll(ctx, func() (bool, error) { return !alive(postmaster), nil }))
	sweep(t.Context(), filepath.Dir(path))
	require.NoDirExists(t, path)
}

func TestParsePidfile(t *testing.T) {
	require.Equal(t, pidfile{}, parsePidfile(nil))
	require.Equal(t, pidfile{pid: 12}, parsePidfile([]byte("12\n/data\n")))
	text := "12\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n  9634817         7\nready   \n"
	require.Equal(t, pidfile{pid: 12, shmem: "7", status: "ready"}, parsePidfile([]byte(text)))
}
