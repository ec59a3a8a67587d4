package gateway

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// frames follows the frames that a client sends. It sees what the reader of messages does not tell of: control frames, empty
// parts of messages, and frames that are not masked.
type frames struct {
	rate     *rate.Limiter // of frames of every kind but the closing one
	unmasked atomic.Bool   // there was such a frame

	head [10]byte // of the frame that begins: two bytes, and the longer length; the mask is taken for payload
	have int      // bytes of it
	left uint64   // bytes of the frame behind that
}

// errFlood is what is read where there are too many frames.
var errFlood = errors.New("gateway: too many frames")

// scan follows some bytes. It returns how many of them come before a frame that is one too many; all of them, if none is.
func (f *frames) scan(p []byte) int {
	for i := 0; i < len(p); {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)-i))
			f.left -= n
			i += int(n)
			continue
		}
		const closing = 0x8
		if f.have == 0 && p[i]&0xf != closing && !f.rate.Allow() {
			return i
		}
		f.head[f.have] = p[i]
		f.have++
		i++
		f.beginPayload()
	}
	return len(p)
}

// beginPayload looks whether the head is complete.
func (f *frames) beginPayload() {
	if f.have < 2 {
		return
	}
	const mask = 4
	masked, length := f.head[1]&0x80 != 0, f.head[1]&0x7f
	switch {
	case length == 126 && f.have == 4:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case length == 127 && f.have == 10:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	case length < 126:
		f.left = uint64(length)
	default:
		return
	}
	f.have = 0
	if masked {
		f.left += mask
	} else {
		f.unmasked.Store(true)
	}
}
