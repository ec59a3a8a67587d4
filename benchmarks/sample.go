package main

import (
	"runtime"
	"time"
)

// sample is what one trial of one contender gave. What a section does not measure stays 0.
type sample struct {
	value          float64       // events a second, or seconds: the section says
	p50, p99, p999 time.Duration // of single events
	allocs         float64       // an event
	cpu            time.Duration // of this process, an event
	lost           int           // events that a bounded queue dropped
}

// meter measures what this process spends between begin and end.
type meter struct {
	mallocs uint64
	cpu     time.Duration
}

// begin collects garbage first, so that no contender pays for its predecessor.
func begin() meter {
	runtime.GC()
	return meter{mallocs: mallocs(), cpu: processCPU()}
}

// end fills in the cost of one of n events.
func (m meter) end(s *sample, n int) {
	if n == 0 {
		return
	}
	s.cpu = (processCPU() - m.cpu) / time.Duration(n)
	s.allocs = float64(mallocs()-m.mallocs) / float64(n)
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}
