//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package pgtest

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// memoryFolder returns "": there is no file system in memory by default.
func memoryFolder() string { return "" }

// platformAttributes leaves a child in the terminal's process group, so that Ctrl-C ends it too: nothing else
// does when this process is killed.
func platformAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// children returns the processes whose parent is pid.
func children(pid int) ([]int, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(fields[0])
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// alive says whether pid runs or could run again.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}

// commandLine returns the arguments of a process, separated by blanks; "" if there is none.
func commandLine(pid int) string {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(out)
}
