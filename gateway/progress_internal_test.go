package gateway

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A client is closed for one reason. That it takes nothing any more, afterwards, is none.
func TestAClientIsClosedForOneReason(t *testing.T) {
	c, counted := &client{}, newCounters()
	c.closedFor(&counted.flood)
	c.closedFor(&counted.stuck)
	require.EqualValues(t, 1, counted.flood.Load())
	require.Zero(t, counted.stuck.Load())
}
