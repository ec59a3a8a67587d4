package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	folderPrefix = "pghub-pgtest-" // of the temporary folders of servers, for sweep to recognise
	lockName     = "lock"
	dataName     = "data"
	logName      = "log"
	// newbornAge is how long a folder may exist before its owner has locked it.
	newbornAge = time.Minute
)

// A folder holds the data, socket and log of one server. Its owner's lock on a file in it ends with the owner,
// however that dies.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes a locked folder in base that belongs to account.
func newFolder(base string, account *account) (*folder, error) {
	path, err := os.MkdirTemp(base, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	f := &folder{path: path}
	if err := f.claim(account); err != nil {
		_ = f.remove()
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return f, nil
}

// claim locks the folder, then says so in the lock file: a sweep that comes between the two leaves it alone.
func (f *folder) claim(account *account) error {
	lock, err := os.OpenFile(filepath.Join(f.path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.lock = lock
	if !tryLock(lock) {
		return fmt.Errorf("lock of %s is taken", f.path)
	}
	if _, err := fmt.Fprintf(lock, "%d\n", os.Getpid()); err != nil {
		return err
	}
	return account.own(f.path)
}

func (f *folder) data() string { return filepath.Join(f.path, dataName) }
func (f *folder) log() string  { return filepath.Join(f.path, logName) }

// write puts a file that account owns, and nobody else may read, under the folder.
func (f *folder) write(name string, content []byte, account *account) error {
	path := filepath.Join(f.path, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return account.own(path)
}

// remove deletes the folder and gives up the lock, in that order.
func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if f.lock != nil {
		_ = f.lock.Close() // nothing was written to it that matters
	}
	return err
}

// logSize is the length of the server's log so far.
func (f *folder) logSize() int64 {
	info, err := os.Stat(f.log())
	if err != nil {
		return 0 // nothing was started yet
	}
	return info.Size()
}

// logTail returns the end of what was logged since the log had the length from.
func (f *folder) logTail(from int64) string {
	text, err := os.ReadFile(f.log())
	if err != nil {
		return ""
	}
	const most = 3000
	start := max(min(int(from), len(text)), len(text)-most)
	return strings.TrimSpace(string(text[start:]))
}

// sweep removes the folders in base whose owner is gone, and ends their servers. What it may not touch, because
// it is another user's, it leaves.
func sweep(ctx context.Context, base string) {
	paths, _ := filepath.Glob(filepath.Join(base, folderPrefix+"*")) // fails for a bad pattern only
	for _, path := range paths {
		sweepFolder(ctx, path)
	}
}

func sweepFolder(ctx context.Context, path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return
	}
	newborn := time.Since(info.ModTime()) < newbornAge
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		if os.IsNotExist(err) && !newborn {
			_ = os.RemoveAll(path)
		}
		return
	}
	defer func() { _ = lock.Close() }()
	if !tryLock(lock) {
		return
	}
	if content, err := lock.Stat(); err != nil || content.Size() == 0 && newborn {
		return
	}
	data := filepath.Join(path, dataName)
	if pid := readPidfile(data).pid; pid != 0 && serves(pid, data) {
		_ = killTree(ctx, pid)
	}
	clearCrash(ctx, data)
	_ = os.RemoveAll(path)
}

// A pidfile is what postgres says about itself in postmaster.pid; the zero value if there is none.
type pidfile struct {
	pid    int
	shmem  string // number of its System V shared memory
	status string // "ready" when it accepts connections
}

func readPidfile(data string) pidfile {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return pidfile{}
	}
	return parsePidfile(text)
}

func parsePidfile(text []byte) pidfile {
	lines := bytes.Split(text, []byte("\n"))
	line := func(n int) string {
		if n > len(lines) {
			return ""
		}
		return strings.TrimSpace(string(lines[n-1]))
	}
	var p pidfile
	p.pid, _ = strconv.Atoi(line(1)) // 0 while the file is being written
	if fields := strings.Fields(line(7)); len(fields) == 2 {
		p.shmem = fields[1]
	}
	p.status = line(8)
	return p
}
