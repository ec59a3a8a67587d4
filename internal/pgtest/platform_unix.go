//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgtest

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Freeze and Thaw are the signals that hold a process where it stands, and let it go on.
const (
	Freeze = syscall.SIGSTOP
	Thaw   = syscall.SIGCONT
)

// platformManages says whether servers can be started from binaries here.
const platformManages = true

// An account is the user that servers run as; nil is the one this process runs as.
type account struct {
	uid, gid uint32
}

// serverAccount returns another account if this process runs as root, which initdb and postgres refuse.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		entry, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(entry.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(entry.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &account{uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("pgtest: PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}

// own makes the account the owner of path.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// attributes are those of a child process that runs as the account.
func (a *account) attributes() *syscall.SysProcAttr {
	attributes := platformAttributes()
	if a != nil {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attributes
}

// baseFolders are the places for temporary folders, best first. What TMPDIR names may be closed to another account.
func (a *account) baseFolders() []string {
	bases := []string{os.TempDir()}
	if a != nil {
		bases[0] = "/tmp"
	}
	if memory := memoryFolder(); memory != "" {
		bases = append([]string{memory}, bases...)
	}
	return bases
}

// tryLock takes an exclusive lock that lasts until the file is closed, or its process is gone.
func tryLock(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// freeze stops a process where it stands, if it is there.
func freeze(pid int) { _ = signal(pid, Freeze) }

// thaw lets a stopped process go on.
func thaw(pid int) { _ = signal(pid, Thaw) }

// serves says whether pid is the server of a data folder, and not a later process with its number.
func serves(pid int, data string) bool { return strings.Contains(commandLine(pid), data) }
