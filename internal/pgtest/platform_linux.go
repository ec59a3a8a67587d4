package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// roomyEnough is how much free memory makes a file system in memory the place for servers.
const roomyEnough = 1 << 30

// memoryFolder returns a file system in memory with enough room, else "".
func memoryFolder() string {
	const shm = "/dev/shm"
	var stat syscall.Statfs_t
	if err := syscall.Statfs(shm, &stat); err != nil || int64(stat.Bavail)*int64(stat.Bsize) < roomyEnough {
		return ""
	}
	probe, err := os.MkdirTemp(shm, "probe")
	if err != nil {
		return ""
	}
	_ = os.Remove(probe)
	return shm
}

// platformAttributes makes a child end with this process, and keeps a Ctrl-C in the terminal from it: a program
// that ends gracefully still needs its server.
func platformAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}

// children returns the processes whose parent is pid.
func children(pid int) ([]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range paths {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if _, parent := processState(child); parent == pid {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// alive says whether pid runs or could run again: a zombie that nobody has waited for does not count.
func alive(pid int) bool {
	state, _ := processState(pid)
	return state != "" && state != "Z" && state != "X"
}

// processState returns the state letter and the parent of a process; "" and 0 if there is none.
func processState(pid int) (state string, parent int) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0
	}
	// 123 (name, which may hold anything) S 1 …
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// commandLine returns the arguments of a process, separated by blanks; "" if there is none.
func commandLine(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return string(bytes.ReplaceAll(text, []byte{0}, []byte(" ")))
}
