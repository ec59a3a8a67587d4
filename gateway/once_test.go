package gateway_test

import (
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// countingCodec counts what it decodes. It cannot be compared, as a user's codec may not be.
type countingCodec struct {
	pghub.KeyValueCodec
	decoded *atomic.Int64
	_       []int
}

func (c countingCodec) Decode(ev *pghub.Event) error {
	c.decoded.Add(1)
	return c.KeyValueCodec.Decode(ev)
}

func TestOneEventIsEncodedOnceForAll(t *testing.T) {
	codec := countingCodec{decoded: new(atomic.Int64)}
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Codec: codec})
	var all []*websocket.Conn
	for range 50 {
		ws := f.dial("/listen/t?format=event")
		f.read(ws) // subscribe
		all = append(all, ws)
	}
	for range 10 {
		f.notify("t", "e1")
	}
	for _, ws := range all {
		for range 10 {
			f.expect(ws, event("t", "1", "null"))
		}
	}
	require.EqualValues(t, 10, codec.decoded.Load())
}
