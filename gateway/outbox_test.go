package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit, patience: time.Hour}
	o.admit([]string{"t", "u"})
	return o
}

// texts takes everything.
func (o *outbox) texts() (texts []string) {
	for {
		items, _ := o.take(nil)
		if len(items) == 0 {
			return texts
		}
		for _, it := range items {
			texts = append(texts, string(it.message()))
		}
	}
}

func lagOf(n uint64) string { return string(lagMessage(n)) }

func TestOldestEventsGiveWayInTheirPlace(t *testing.T) {
	o := newOutbox(5 * (itemCost + 1))
	put := func(k kind, text string) { require.False(t, o.put(item{kind: k, topic: "t", data: []byte(text)})) }
	put(kindEvent, "1")
	put(kindEvent, "2")
	put(kindAdvisory, "A")
	for _, text := range []string{"3", "4", "5", "6", "7"} {
		put(kindEvent, text)
	}
	// 1 and 2 were before the advisory, 3 and more behind it: each loss stands where it happened.
	require.Equal(t, []string{lagOf(2), "A", lagOf(3), "6", "7"}, o.texts())
	require.EqualValues(t, 5, o.dropped)
	require.Zero(t, o.bytes)

	put(kindEvent, "8")
	require.Equal(t, []string{"8"}, o.texts(), "and it goes on")
}

func TestOneEventLargerThanTheOutboxIsCounted(t *testing.T) {
	o := newOutbox(100)
	require.False(t, o.put(item{kind: kindEvent, topic: "t", data: make([]byte, 1000)}))
	require.Equal(t, []string{lagOf(1)}, o.texts())
}

func TestRepliesThatPileUpEndTheClient(t *testing.T) {
	o := newOutbox(10 * itemCost)
	ended := false
	for range 100 {
		ended = o.put(item{kind: kindReply}) || ended
	}
	require.True(t, ended)
	_, end := o.take(nil)
	require.Nil(t, end, "what waits goes first")
	o.texts()
	_, end = o.take(nil)
	require.Equal(t, endSlow, end)
}

func TestPatienceEnds(t *testing.T) {
	o := newOutbox(3 * itemCost)
	o.patience = time.Nanosecond
	var puts uint64
	for ended := false; !ended; puts++ {
		ended = o.put(item{kind: kindEvent, topic: "t"})
	}
	require.Equal(t, []string{lagOf(puts)}, o.texts(), "all that waited is counted")
}

func TestNothingComesBehindAnUnsubscription(t *testing.T) {
	o := newOutbox(1000)
	for _, topic := range []string{"t", "u", "t"} {
		o.put(item{kind: kindEvent, topic: topic, data: []byte(topic)})
	}
	o.revoke([]string{"t"})
	o.put(item{kind: kindEvent, topic: "t", data: []byte("was on its way")})
	require.Equal(t, []string{"u"}, o.texts())
	o.admit([]string{"t"})
	o.put(item{kind: kindEvent, topic: "t", data: []byte("again")})
	require.Equal(t, []string{"again"}, o.texts())
}

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, topic string
		want           bool
	}{
		{"*", "any/thing at.all", true},
		{"a*", "a/b", true},
		{"a/*", "a/b/c", true},
		{"a?b", "a/b", true},
		{"user_[0-9]", "user_4", true},
		{"user_[0-9]", "user_42", false},
		{"a", "A", false},
		{"a", "ab", false},
	} {
		require.Equal(t, test.want, topicMatches(test.pattern, test.topic), test.pattern)
	}
}

func TestOutboxCountsItsBytes(t *testing.T) {
	o := newOutbox(10 * (itemCost + 10))
	for range 1000 { // each round would leave something behind, and 1,000 of them more than there is room for
		for _, topic := range []string{"t", "u", "t"} {
			require.False(t, o.put(item{kind: kindEvent, topic: topic, data: make([]byte, 10)}))
		}
		o.revoke([]string{"t"})
		require.Equal(t, itemCost+10, o.bytes)
		o.admit([]string{"t"})
		require.Len(t, o.texts(), 1)
		require.Zero(t, o.bytes)
	}
	require.Zero(t, o.dropped)
	// The limit itself is not too much.
	for range 10 {
		o.put(item{kind: kindEvent, topic: "t", data: make([]byte, 10)})
	}
	require.Zero(t, o.dropped)
	o.put(item{kind: kindEvent, topic: "t", data: make([]byte, 10)})
	require.NotZero(t, o.dropped)
}

// A client that has caught up is as patient as a new one: only time spent behind without a break counts.
func TestPatienceIsRenewedByCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(3 * itemCost)
		o.patience = time.Second
		overflow := func() (ended bool) {
			for range 10 {
				ended = o.put(item{kind: kindEvent, topic: "t"}) || ended
			}
			return ended
		}
		for range 5 {
			require.False(t, overflow())
			require.NotEmpty(t, o.texts())
			time.Sleep(2 * time.Second)
		}
		for range 3 {
			o.put(item{kind: kindEvent, topic: "t"})
		}
		time.Sleep(2 * time.Second)
		require.False(t, overflow(), "full is not behind")
		time.Sleep(time.Second)
		require.False(t, overflow(), "not longer than its patience")
		time.Sleep(time.Nanosecond)
		require.True(t, overflow())
		require.False(t, o.put(item{kind: kindEvent, topic: "t"}), "it ends once")
	})
}

// Payloads alone cannot say that some are missing.
func TestGaplessOutboxEndsAtOnce(t *testing.T) {
	o := newOutbox(3 * itemCost)
	o.gapless = true
	for range 3 {
		require.False(t, o.put(item{kind: kindEvent, topic: "t"}))
	}
	require.True(t, o.put(item{kind: kindEvent, topic: "t"}))
	items, end := o.take(nil)
	require.Empty(t, items, "nothing with a gap in it is sent")
	require.Equal(t, endSlow, end)
	require.EqualValues(t, 4, o.dropped)
}
