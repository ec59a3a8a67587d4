package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 3.0, median([]float64{3}))
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 2.5, median([]float64{9, 1, 2, 3}))
	values := []float64{3, 1, 2}
	median(values)
	require.Equal(t, []float64{3, 1, 2}, values)
}

func TestBucketsCoverEverythingInOrder(t *testing.T) {
	for i := range len(histogram{}.buckets) - perOctave*octaveBits {
		start := bucketStart(i)
		require.Equal(t, i, bucketOf(start), start)
		if i > 0 {
			require.Equal(t, i-1, bucketOf(start-1), start)
		}
	}
	require.Less(t, bucketOf(1<<63-1), len(histogram{}.buckets))
}

func TestQuantile(t *testing.T) {
	var empty histogram
	require.Zero(t, empty.quantile(0.5))

	var h, other histogram
	for i := range 500 {
		h.add(time.Duration(2*i) * time.Microsecond)
		other.add(time.Duration(2*i+1) * time.Microsecond)
	}
	h.merge(&other)
	require.EqualValues(t, 1000, h.total)
	for _, q := range []float64{0.01, 0.5, 0.99, 0.999} {
		require.InEpsilon(t, q*1000*float64(time.Microsecond), float64(h.quantile(q)), 1.0/perOctave, q)
	}
	h.add(-time.Second) // the clock
	require.Zero(t, h.quantile(0))
}
