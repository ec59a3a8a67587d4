package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit, patience: time.Hour, common: newLedger(0)}
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
		require.Equal(t, test.want, TopicMatches(test.pattern, test.topic), test.pattern)
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

// A burst passes whole while the client takes it, however long that takes; one that takes nothing is slow.
func TestBurstIsNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(10 * itemCost)
		o.common, o.patience = newLedger(1<<20), 30*time.Second
		burst := func(n int) (ended bool) {
			for range n {
				ended = o.put(item{kind: kindEvent, topic: "t"}) || ended
			}
			return ended
		}
		require.False(t, burst(1000))
		for range 10 { // 64 each time
			time.Sleep(29 * time.Second)
			items, _ := o.take(nil)
			require.Len(t, items, takeItems)
			require.False(t, burst(1))
		}
		require.Zero(t, o.dropped)

		time.Sleep(time.Second) // since it has taken something
		require.False(t, burst(1), "not longer than its patience")
		time.Sleep(29 * time.Second)
		require.False(t, burst(1), "not longer than its patience")
		time.Sleep(time.Nanosecond)
		require.True(t, burst(1))
		require.Equal(t, []string{lagOf(o.dropped)}, o.texts(), "all that waited is counted")
		require.Zero(t, o.common.total(), "and given back")

		// Another one that was behind, and is within its own share again, is patient anew.
		o = newOutbox(100 * itemCost)
		o.common, o.patience = newLedger(1<<20), 30*time.Second
		require.False(t, burst(110))
		_, _ = o.take(nil) // 46 are left
		time.Sleep(time.Hour)
		require.False(t, burst(100))
		require.Zero(t, o.dropped)
	})
}

// What is lost is less, but not by catching up.
func TestDroppingIsNotCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(100 * itemCost)
		o.patience = 30 * time.Second
		ended := false
		for range 300 { // a hundred a second, and it takes 64 of them
			for range 100 {
				ended = o.put(item{kind: kindEvent, topic: "t"}) || ended
			}
			if ended {
				break
			}
			_, _ = o.take(nil)
			time.Sleep(time.Second)
		}
		require.True(t, ended)
	})
}

func TestLedgerCountsSharedMessagesOnce(t *testing.T) {
	l := newLedger(1000 + 3*itemCost)
	shared, own := item{data: make([]byte, 1000), borrowed: true}, item{data: make([]byte, 1), borrowed: true}
	require.True(t, l.borrow(shared))
	require.True(t, l.borrow(shared))
	require.Equal(t, 1000+2*itemCost, l.total())
	require.False(t, l.borrow(own), "one byte too many")
	require.True(t, l.borrow(item{}), "the limit itself is not")
	l.giveBack(item{borrowed: true}, item{data: own.data}) // of which one never was borrowed
	require.Equal(t, 1000+2*itemCost, l.total())
	l.giveBack(shared)
	require.Equal(t, 1000+itemCost, l.total(), "it is still there")
	l.giveBack(shared)
	require.Zero(t, l.total())
	require.Empty(t, l.shared)
}

// One client cannot borrow all there is.
func TestOneClientBorrowsAnEighth(t *testing.T) {
	o := newOutbox(3 * itemCost)
	o.common = newLedger(80 * itemCost)
	for range 13 {
		o.put(item{kind: kindEvent, topic: "t"})
	}
	require.Zero(t, o.dropped)
	o.put(item{kind: kindEvent, topic: "t"})
	require.NotZero(t, o.dropped)
	require.LessOrEqual(t, o.bytes, 13*itemCost)
}

// However an item leaves the outbox, what was borrowed for it is given back.
func TestWhatIsBorrowedIsGivenBack(t *testing.T) {
	for name, leave := range map[string]func(*outbox){
		"sent":           func(o *outbox) { o.texts() },
		"unsubscribed":   func(o *outbox) { o.revoke([]string{"t"}) },
		"left":           func(o *outbox) { o.discard() },
		"found slow":     func(o *outbox) { o.endSlowLocked() },
		"cannot be told": func(o *outbox) { o.gapless = true; o.endSlowLocked() },
		"dropped": func(o *outbox) {
			for o.dropOldestLocked() {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutbox(3 * itemCost)
			o.common = newLedger(1000 * itemCost)
			for range 20 {
				require.False(t, o.put(item{kind: kindEvent, topic: "t", data: make([]byte, 10)}))
			}
			require.Zero(t, o.dropped)
			require.NotZero(t, o.common.total())
			leave(o)
			require.Zero(t, o.common.total())
			require.Empty(t, o.common.shared)
		})
	}
	o := newOutbox(1000)
	o.discard()
	require.False(t, o.put(item{kind: kindEvent, topic: "t"}), "nothing is kept for who has left")
	require.Empty(t, o.items)
}
