package main

import (
	"math/bits"
	"slices"
	"time"
)

// median of values, which it leaves as they are; 0 if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// histogram counts durations in buckets that are a 32nd of their value wide or narrower. The zero value is empty.
type histogram struct {
	buckets [64 * perOctave]uint32
	total   uint64
}

const (
	octaveBits = 5
	perOctave  = 1 << octaveBits
)

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

// merge adds what another histogram has counted.
func (h *histogram) merge(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.total += other.total
}

// quantile is the duration that a share q of all does not exceed, to within the width of a bucket.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	for i, n := range h.buckets {
		if uint64(n) > rank {
			return time.Duration(bucketStart(i))
		}
		rank -= uint64(n)
	}
	return 0
}

// fill sets the quantiles of a sample.
func (h *histogram) fill(s *sample) {
	s.p50, s.p99, s.p999 = h.quantile(0.5), h.quantile(0.99), h.quantile(0.999)
}

// bucketOf counts up to perOctave one by one, and from there in perOctave steps to each power of two.
func bucketOf(v uint64) int {
	if v < perOctave {
		return int(v)
	}
	shift := bits.Len64(v) - octaveBits - 1
	return (shift+1)<<octaveBits + int(v>>shift) - perOctave
}

func bucketStart(i int) uint64 {
	if i < perOctave {
		return uint64(i)
	}
	shift := i>>octaveBits - 1
	return uint64(i&(perOctave-1)+perOctave) << shift
}
