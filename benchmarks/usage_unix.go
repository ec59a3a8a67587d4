//go:build unix

package main

import (
	"syscall"
	"time"
)

// processCPU is the time that this process has spent on processors, in user and kernel mode.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
