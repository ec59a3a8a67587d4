package gateway_test

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// An event that comes for a client while the closing handshake is under way does not cut that short: a reset takes along the
// reason, if the client has not read it yet.
func TestAnEventDoesNotCutTheClosingShort(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, MaxRate: 1})
	ws, other := f.dialRaw("/listen/t", 4096), f.dial("/listen/t")
	for range 11 { // one more than a burst
		require.NoError(t, ws.sendFrame(opText, "x"))
	}
	op, data, err := ws.readFrame(make([]byte, 4096))
	require.NoError(t, err)
	require.EqualValues(t, opClose, op)
	require.EqualValues(t, gateway.CodeFlood, binary.BigEndian.Uint16(data))

	f.notify("t", "x")
	f.expect(other, "x")
	require.NoError(t, ws.sendFrame(opClose, ""))
	_, _, err = ws.readFrame(make([]byte, 4096))
	require.ErrorIs(t, err, io.EOF)
}
