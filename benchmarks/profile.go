package main

import (
	"os"
	"runtime"
	"runtime/pprof"
)

// startProfiles begins to profile this process; stop writes the files. A name of "" is no profile.
func startProfiles(cpu, mem string) (stop func() error, err error) {
	if mem != "" {
		runtime.MemProfileRate = 4096
	}
	var cpuFile *os.File
	if cpu != "" {
		if cpuFile, err = os.Create(cpu); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpuFile); err != nil {
			return nil, err
		}
	}
	return func() error {
		if cpuFile != nil {
			pprof.StopCPUProfile()
			if err := cpuFile.Close(); err != nil {
				return err
			}
		}
		if mem == "" {
			return nil
		}
		file, err := os.Create(mem)
		if err != nil {
			return err
		}
		if err := pprof.Lookup("allocs").WriteTo(file, 0); err != nil {
			return err
		}
		return file.Close()
	}, nil
}
