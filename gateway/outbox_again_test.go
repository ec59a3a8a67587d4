package gateway

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// full is an outbox that events fill to the last byte which can be had again.
func full(t *testing.T) *outbox {
	t.Helper()
	o := newOutbox(5 * (itemCost + 1))
	for n := range 6 {
		taken, ended := o.offer(item{kind: kindEvent, topic: "t", data: fmt.Append(nil, n)})
		require.Equal(t, n < 5, taken)
		require.False(t, ended)
	}
	return o
}

// Whatever comes, what can be had again does not give way: it has been counted as handed on.
func TestWhatCanBeHadAgainDoesNotGiveWay(t *testing.T) {
	replayed := []string{"0", "1", "2", "3", "4"}
	o := full(t)
	for _, k := range []kind{kindAdvisory, kindReply} {
		require.False(t, o.put(item{kind: k, data: []byte("A")}))
	}
	require.Equal(t, append(replayed[:5:5], "A", "A"), o.texts())
	require.Zero(t, o.dropped)

	o = full(t)
	for range 3 {
		require.False(t, o.put(item{kind: kindEvent, topic: "u", data: make([]byte, 1000)}))
	}
	require.Equal(t, append(replayed[:5:5], lagOf(3)), o.texts(), "of a topic that is not kept")
	require.EqualValues(t, 3, o.dropped)
	require.Zero(t, o.bytes)
}

// It does not hold up the end of a client, either. Where the client was it can go on.
func TestTheEndOfAClientThatCanHaveItAgain(t *testing.T) {
	o := full(t)
	require.False(t, o.put(item{kind: kindReply, data: []byte("R")}))
	puts := 1
	for ended := false; !ended; puts++ {
		ended = o.put(item{kind: kindReply, data: []byte("R")})
		require.Less(t, puts, 7, "more than the limit")
	}
	require.Len(t, o.texts(), puts)
	require.Zero(t, o.dropped)
	require.Zero(t, o.bytes)
}
