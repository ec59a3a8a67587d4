package gateway

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// scripted is a source whose reading the test sees.
type scripted struct {
	events []int
	during func(reads int) // called at the beginning of a reading
	reads  int
	pause  func() // called before each event that is handed on
}

func (s *scripted) has(string) bool { return true }

func (s *scripted) id(at pghub.Position) string { return historyID("e", uint64(at.ID)) }

func (s *scripted) read(ctx context.Context, after pghub.Position, _ map[string]uint64, _ []string, add func(pghub.Position, item) bool) (bool, error) {
	s.reads++
	if s.during != nil {
		s.during(s.reads)
	}
	for _, n := range s.events {
		at := numbered(uint64(n))
		if at.Compare(after) <= 0 {
			continue
		}
		if s.pause != nil {
			s.pause()
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if !add(at, numberedItem(n, 0)) {
			return false, nil
		}
	}
	return true, nil
}

func numberedItem(n, size int) item {
	data := fmt.Appendf(nil, `{"topic":"t","key":[],"value":%q,"id":"~e.%d"}`, make([]byte, size), n)
	return item{kind: kindEvent, topic: "t", data: data}
}

// newTracked is a client with a topic on a track, and no hub.
func newTracked(s source, at int) (*client, *track) {
	g := &Gateway{counters: newCounters(), past: &past{}}
	c := &client{gateway: g, out: outbox{limit: 1 << 20, patience: 1 << 40, common: newLedger(0)}}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.out.admit([]string{"t"})
	t := newTrack(c, s)
	t.topics, t.at, t.behind = []string{"t"}, numbered(uint64(at)), true
	c.tracks = []*track{t}
	return c, t
}

// sent are the numbers of the events in the outbox.
func (c *client) sent() (numbers []int) {
	for {
		items, _ := c.out.take(nil)
		if len(items) == 0 {
			return numbers
		}
		for _, it := range items {
			if it.kind == kindEvent {
				numbers = append(numbers, int(markOf(idOf(it.data)).ID))
			}
		}
	}
}

func upTo(from, to int) (numbers []int) {
	for n := from; n <= to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// What is read and what comes live meanwhile goes out once, in order, however they overlap.
func TestTheSeamOfAReplay(t *testing.T) {
	for read := 3; read <= 8; read++ { // events that the reading finds: up to here
		for live := 3; live <= read+1; live++ { // events that come live meanwhile: from here to 8
			s := &scripted{events: upTo(1, read)}
			c, track := newTracked(s, 2)
			s.during = func(reads int) {
				if reads == 1 {
					for n := live; n <= 8; n++ {
						c.take(numberedItem(n, 0))
					}
				}
			}
			track.run()
			c.take(numberedItem(8, 0)) // once more
			c.take(numberedItem(9, 0))
			require.Equal(t, upTo(3, 9), c.sent(), "read up to %d, live from %d", read, live)
			require.False(t, track.behind)
		}
	}

	// More than can be held is read.
	s := &scripted{events: upTo(1, 5)}
	c, track := newTracked(s, 0)
	s.during = func(reads int) {
		if reads == 1 {
			for n := 6; n <= 20; n++ {
				c.take(numberedItem(n, maxHeld/60)) // a NUL is six characters of JSON
			}
			require.True(t, track.spilt)
			require.Empty(t, track.held, "it costs nothing")
			s.events = upTo(1, 5) // as they were when it began
		} else {
			s.events = upTo(1, 20)
		}
	}
	track.run()
	require.Equal(t, upTo(1, 20), c.sent())
	require.Equal(t, 2, s.reads)

	// A topic that is given up is not sent any more.
	s = &scripted{events: upTo(1, 5)}
	c, track = newTracked(s, 0)
	s.during = func(int) { c.unfollow([]string{"t"}) }
	track.run()
	require.Empty(t, c.sent())
	require.Empty(t, c.tracks)
}

// Tracks that have come as far go on together; one that is behind does not.
func TestTracksUnite(t *testing.T) {
	c, first := newTracked(&scripted{}, 5)
	first.behind = false
	second, third := newTrack(c, first.source), newTrack(c, first.source)
	second.topics, second.at = []string{"u"}, numbered(7)
	third.topics, third.at, third.behind = []string{"v"}, numbered(3), true
	first.floors, second.floors = map[string]uint64{"gone": 4}, map[string]uint64{"u": 3}
	c.tracks = append(c.tracks, second, third)
	c.take(numberedItem(6, 0))
	require.Len(t, c.tracks, 3, "of the second an event may come that it has")
	c.take(numberedItem(8, 0))
	require.Len(t, c.tracks, 2)
	require.Equal(t, []string{"t", "u"}, slices.Sorted(slices.Values(first.topics)))
	require.Equal(t, map[string]uint64{"u": 3}, first.floors)
}

func TestCursors(t *testing.T) {
	for _, text := range []string{"1795281233822.7.5", "1795281233822", "~abc.17", "1795281233822.7.5~abc.17"} {
		c, ok := parseCursor(text)
		require.True(t, ok, text)
		require.Equal(t, text, c.String())
	}
	for _, text := range []string{"", "17", "~", "~abc", "~abc.", "~.1", "~abc.-1", "x", "1795281233822.7", "1795281233822.7.5~", "~1.2.3x"} {
		_, ok := parseCursor(text)
		require.False(t, ok, text)
	}
	require.Empty(t, idOf([]byte(`{"topic":"t","key":[],"value":{"a":"b","id":"x"}}`)), "a value's own")
	require.Empty(t, idOf([]byte(`{"topic":"t","key":[],"value":null,"payload":"","undecodable":"a \",\"id\":\"x"}`)))
	require.Equal(t, "~e.1", string(idOf(withID([]byte(`{"value":null}`), "~e.1"))))
}

// What is held while replays read is bounded for a client, however many tracks it has. The one that holds the most gives it up.
func TestWhatIsHeldIsBoundedForAClient(t *testing.T) {
	c, big := newTracked(&scripted{}, 0)
	small := newTrack(c, &scripted{})
	small.topics, small.at, small.behind = []string{"u"}, numbered(0), true
	c.tracks = append(c.tracks, small)
	c.out.admit([]string{"u"})
	take := func(topic string, number int) {
		it := numberedItem(number, 1000) // 4 kB
		it.topic = topic
		c.take(it)
	}
	n := 0
	for range 5 {
		n++
		take("u", n)
	}
	most := 0
	for !big.spilt && n < 1000 {
		n++
		take("t", n)
		most = max(most, big.size+small.size)
	}
	require.LessOrEqual(t, most, maxHeld)
	require.Greater(t, most, maxHeld*9/10)
	require.Len(t, small.held, 5, "it is not to blame")
	require.False(t, small.spilt)
	require.Empty(t, big.held)

	most = 0
	for !small.spilt && n < 1000 { // now it has all that there is
		n++
		take("u", n)
		most = max(most, small.size)
	}
	require.LessOrEqual(t, most, maxHeld)
	require.Greater(t, most, maxHeld*9/10)
	require.Empty(t, small.held)
}
