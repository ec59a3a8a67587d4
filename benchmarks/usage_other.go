//go:build !unix

package main

import "time"

// processCPU is not known here; the column stays at 0.
func processCPU() time.Duration { return 0 }
