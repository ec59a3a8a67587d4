package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

// A frame is counted once, whatever its length and however it arrives.
func TestFramesAreFollowed(t *testing.T) {
	var sent []byte
	var starts []int
	for _, length := range []int{0, 1, 125, 126, 127, 200, 65535, 65536, 70000, 0, 5} {
		starts = append(starts, len(sent))
		switch {
		case length < 126:
			sent = append(sent, 0x81, 0x80|byte(length))
		case length < 1<<16:
			sent = binary.BigEndian.AppendUint16(append(sent, 0x81, 0x80|126), uint16(length))
		default:
			sent = binary.BigEndian.AppendUint64(append(sent, 0x81, 0x80|127), uint64(length))
		}
		sent = append(sent, 0x81, 0x82, 0x83, 0x84) // the mask
		for range length {
			sent = append(sent, 0x81)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for allowed := range len(starts) + 1 {
		for _, most := range []int{1, 3, 4096, len(sent)} {
			f := &frames{rate: rate.NewLimiter(0, allowed)}
			at := 0
			for at < len(sent) {
				n := min(len(sent)-at, 1+random.IntN(most))
				passed := f.scan(sent[at : at+n])
				if at += passed; passed < n {
					break
				}
			}
			want := len(sent)
			if allowed < len(starts) {
				want = starts[allowed]
			}
			require.Equal(t, want, at, "%d allowed, at most %d bytes at once", allowed, most)
			require.False(t, f.unmasked.Load())
		}
	}
	f := &frames{rate: rate.NewLimiter(0, 3)}
	closing := []byte{0x88, 0x80, 0, 0, 0, 0}
	for range 10 {
		require.Equal(t, len(closing), f.scan(closing), "an end is never too much")
	}
	require.Equal(t, 3, f.scan([]byte{0x81, 0x01, 'x', 0x81}[:3]))
	require.True(t, f.unmasked.Load())
}
