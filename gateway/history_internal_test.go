package gateway

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Events that come wait for a reader of the history no longer than it takes to look at a few, however many there are of other topics.
func TestTheHistoryIsLookedAtInParts(t *testing.T) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	hub, err := pghub.New(pghub.Config{ListenConfig: cfg}) // it is not started
	require.NoError(t, err)
	h := newHistory("e", 10_000, 1<<20)
	h.look(0, true)
	h.begin("a")
	h.begin("others")
	begun := h.last()
	add := func(topic string, n int) {
		for range n {
			h.add(topic, []byte("{}"))
		}
	}
	add("others", 3*lookAtOnce)
	add("a", takeItems+1)
	add("others", lookAtOnce)
	add("a", 1)

	looks := 0
	for from := begun; ; looks++ {
		_, upTo, reaches := h.some(from, nil, []string{"a"})
		require.True(t, reaches)
		if upTo == from {
			break
		}
		require.LessOrEqual(t, upTo-from, uint64(lookAtOnce))
		from = upTo
	}
	require.GreaterOrEqual(t, looks, 5)

	s := historySource{&past{gateway: &Gateway{hub: hub}, history: h}}
	var read []pghub.Position
	all, err := s.read(t.Context(), numbered(begun), nil, []string{"a"}, func(at pghub.Position, _ item) bool {
		read = append(read, at)
		return true
	})
	require.NoError(t, err)
	require.True(t, all)
	require.Len(t, read, takeItems+2)
	require.Equal(t, numbered(h.last()), read[takeItems+1])
}

// The history keeps so many bytes as it may, not one more. What it has dropped it does not reach back to.
func TestTheHistoryHasRoomForSoManyBytes(t *testing.T) {
	h := newHistory("e", 10, 0)
	h.begin("a")
	message := h.add("a", []byte("{}")) // all of them are as long: their numbers have one digit
	require.Empty(t, h.kept)
	require.Zero(t, h.size)

	size := itemCost + len(message)
	h.bytes = 2 * size
	numbers := func() (kept []uint64) {
		for _, r := range h.kept {
			kept = append(kept, r.number)
		}
		return kept
	}
	h.add("a", []byte("{}"))
	h.add("a", []byte("{}"))
	require.Equal(t, []uint64{3, 4}, numbers())
	require.Equal(t, 2*size, h.size)
	require.True(t, h.reachesLocked(2, nil, []string{"a"}))
	require.False(t, h.reachesLocked(1, nil, []string{"a"}))
	h.add("a", []byte("{}"))
	require.Equal(t, []uint64{4, 5}, numbers())
	require.True(t, h.reachesLocked(3, nil, []string{"a"}))
	require.False(t, h.reachesLocked(2, nil, []string{"a"}))
	h.bytes = 2*size - 1
	h.add("a", []byte("{}"))
	require.Equal(t, []uint64{6}, numbers())
	require.Equal(t, size, h.size)
}
