package pghub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queueModel says what a queue has to do in the plainest way: a list.
type queueModel struct {
	limit    int
	overflow Overflow

	items     []queueItem // waiting
	hand      []queueItem // with the worker
	final     string
	finished  bool
	scheduled bool
	dropped   int
	lost      int // out of the hand, and not yet counted
}

type queueItem struct {
	word     string
	topic    string // of an event
	advisory bool
	lag      int
	arrived  time.Duration
}

func (m *queueModel) events() (n int) {
	for _, it := range m.items {
		if it.topic != "" {
			n++
		}
	}
	return n
}

// oldest is when the first event that is not delivered arrived.
func (m *queueModel) oldest() (arrived time.Duration, waits bool) {
	for _, it := range slices.Concat(m.hand, m.items) {
		if it.topic != "" {
			return it.arrived, true
		}
	}
	return 0, false
}

func (m *queueModel) wake() bool {
	wake := !m.scheduled && !m.finished
	m.scheduled = m.scheduled || wake
	return wake
}

func (m *queueModel) put(burst []queueItem) (wake bool) {
	if m.final != "" {
		return false
	}
	if over := m.events() + len(burst) - m.limit; over > 0 && m.overflow == CloseConsumer {
		m.dropped += m.events() + len(burst)
		m.lost = len(m.hand)
		return m.seal("close", true)
	}
	for _, it := range burst {
		m.items = append(m.items, it)
		if m.events() <= m.limit {
			continue
		}
		m.dropped++
		if m.overflow == DropNewest {
			m.items[len(m.items)-1] = queueItem{lag: 1}
			continue
		}
		for i := range m.items {
			if m.items[i].topic != "" {
				m.items[i] = queueItem{lag: 1}
				break
			}
		}
	}
	return m.wake()
}

func (m *queueModel) advise(word string) (wake bool) {
	if m.final != "" {
		return false
	}
	m.items = append(m.items, queueItem{word: word, advisory: true})
	return m.wake()
}

func (m *queueModel) seal(final string, discard bool) (wake bool) {
	if m.final == "" {
		m.final = final
	}
	if discard && !m.finished {
		m.items, m.hand = nil, nil
	}
	return m.wake()
}

func (m *queueModel) revoke(topic string) {
	for _, list := range []*[]queueItem{&m.items, &m.hand} {
		var kept []queueItem
		for _, it := range *list {
			if it.topic != topic {
				kept = append(kept, it)
			}
		}
		*list = kept
	}
}

// take checks what the queue gave into its worker's hand. How much that is, is the queue's own business; what, is not.
func (m *queueModel) take(t *testing.T, hand run, batch int) {
	m.dropped, m.lost = m.dropped+m.lost, 0
	for _, ev := range hand {
		if len(m.items) == 0 {
			require.NotEmpty(t, m.final, "%s comes from nowhere", eventWord(ev))
			require.Equal(t, m.final, eventWord(ev))
			require.False(t, m.finished)
			require.Len(t, hand, 1)
			m.finished = true
			m.hand = []queueItem{{word: m.final, advisory: true}}
			break
		}
		if m.items[0].lag == 0 {
			require.Equal(t, m.items[0].word, eventWord(ev))
			m.hand, m.items = append(m.hand, m.items[0]), m.items[1:]
			continue
		}
		require.NotNil(t, ev.Advisory, "%s, but there is something missing", eventWord(ev))
		for missing := int(ev.Advisory.Dropped); missing > 0; { // it may stand in two parts, of which this is one
			require.NotEmpty(t, m.items, "%d too many are said to be missing", missing)
			require.Positive(t, m.items[0].lag, "%d too many are said to be missing", missing)
			part := min(missing, m.items[0].lag)
			missing -= part
			if m.items[0].lag -= part; m.items[0].lag == 0 {
				m.items = m.items[1:]
			}
		}
		m.hand = append(m.hand, queueItem{word: eventWord(ev), advisory: true})
	}
	if len(hand) == 0 {
		require.Empty(t, m.items, "the queue has forgotten something")
		require.True(t, m.final == "" || m.finished)
		m.scheduled = false
	}
	require.LessOrEqual(t, len(hand), batch)
}

// Random histories of a queue, compared with the model after every step.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(300) {
		runQueueModel(t, seed)
	}
}

func runQueueModel(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	rnd := rand.New(rand.NewPCG(seed, 0))
	limit := 1 + rnd.IntN(9)
	if rnd.IntN(10) == 0 {
		limit = unboundedQueue
	}
	overflow := Overflow(rnd.IntN(3))
	q := newQueue(limit, overflow, &brake{})
	q.batch = 1 + rnd.IntN(4)
	m := &queueModel{limit: limit, overflow: overflow}

	number, seen, sent, revoked, discarded := 0, 0, 0, 0, 0
	now := time.Duration(0)
	worker := func() {
		if !m.scheduled {
			return
		}
		fetches := len(m.hand) == 0
		ev := q.next()
		if fetches {
			m.take(t, q.hand, q.batch)
		}
		if ev == nil {
			return
		}
		require.Equal(t, m.hand[0].word, eventWord(ev))
		if ev.Advisory == nil {
			seen++
		}
		m.hand = m.hand[1:]
		q.done()
	}
	put := func() {
		var runs []run
		var burst []queueItem
		now++
		for range 1 + rnd.IntN(3) {
			topic := []string{"a", "b", "c"}[rnd.IntN(3)]
			var numbers []int
			for range 1 + rnd.IntN(5) {
				number++
				numbers = append(numbers, number)
				burst = append(burst, queueItem{word: fmt.Sprint(topic, " ", number), topic: topic, arrived: now})
			}
			runs = append(runs, queueRun(topic, numbers...))
		}
		if m.final == "" {
			sent += len(burst)
		}
		wake, _ := q.put(now, runs...)
		require.Equal(t, m.put(burst), wake)
		if overflow == CloseConsumer && m.dropped > 0 {
			discarded++
		}
	}
	for range 80 {
		switch rnd.IntN(20) {
		case 0, 1, 2, 3, 4:
			put()
		case 5, 6:
			number++
			word := fmt.Sprint("advisory", number)
			require.Equal(t, m.advise(word), q.advise(queueAdvisory(Action(word))))
		case 7:
			topic := []string{"a", "b", "c"}[rnd.IntN(3)]
			q.revoke(topic)
			m.revoke(topic)
			revoked++
		case 8:
			if rnd.IntN(8) == 0 {
				discard := rnd.IntN(2) == 0
				word := []string{"stop", "close"}[rnd.IntN(2)]
				require.Equal(t, m.seal(word, discard), q.seal(queueAdvisory(Action(word)), discard))
				if discard {
					discarded++
				}
			}
		default:
			worker()
		}
		_, _, _, waiting := q.current()
		require.Equal(t, m.events(), q.events)
		require.LessOrEqual(t, q.events, limit, "the queue is bounded")
		require.GreaterOrEqual(t, waiting, q.events)
		require.Equal(t, uint64(m.dropped), q.droppedSoFar())
		require.Equal(t, m.scheduled, q.scheduled)
		if !q.recall.Load() { // else the handler may still be busy with an event that is void
			wantArrived, wantWaits := m.oldest()
			arrived, waits := q.oldest()
			require.Equal(t, wantWaits, waits)
			require.Equal(t, wantArrived, arrived)
		}
	}
	for m.scheduled {
		worker()
	}
	require.Empty(t, m.items)
	require.Zero(t, q.events)
	if revoked == 0 && discarded == 0 {
		require.Equal(t, sent, seen+m.dropped, "every event is seen or counted")
	}
	require.Equal(t, m.seal("end", false), q.seal(queueAdvisory("end"), false))
	for m.scheduled {
		worker()
	}
	require.True(t, m.finished, "the last event came")
	require.Nil(t, q.next())
}
