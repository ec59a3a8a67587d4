package pghub

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// queueRun makes a run of numbered events of one topic.
func queueRun(topic string, numbers ...int) run {
	r := make(run, len(numbers))
	for i, n := range numbers {
		r[i] = &Event{Topic: topic, Payload: []byte(strconv.Itoa(n))}
	}
	return r
}

// queueTake takes everything, as a worker does, and returns it as words.
func queueTake(q *queue) (words []string) {
	for ev := q.next(); ev != nil; ev = q.next() {
		words = append(words, eventWord(ev))
		q.done()
	}
	return words
}

func queueAdvisory(action Action) *Event { return newAdvisory(Advisory{Action: action}) }

// What is missing is announced where it is missing: not before, not behind, and not together with what is missing
// elsewhere.
func TestQueueOverflow(t *testing.T) {
	numbers := func(from, to int) (n []int) {
		for ; from <= to; from++ {
			n = append(n, from)
		}
		return n
	}
	for name, c := range map[string]struct {
		overflow Overflow
		fill     func(q *queue)
		want     []string
		dropped  uint64
	}{
		"room for all": {
			DropOldest, func(q *queue) { q.put(0, queueRun("a", 1, 2), queueRun("b", 3)) },
			[]string{"a 1", "a 2", "b 3"},
			0,
		},
		"oldest": {
			DropOldest, func(q *queue) { q.put(0, queueRun("a", 1, 2, 3)); q.put(0, queueRun("a", 4, 5)) },
			[]string{"lag 2", "a 3", "a 4", "a 5"},
			2,
		},
		"oldest again": {
			DropOldest, func(q *queue) {
				q.put(0, queueRun("a", 1, 2, 3))
				q.put(0, queueRun("a", 4))
				q.put(0, queueRun("b", 5))
			},
			[]string{"lag 2", "a 3", "a 4", "b 5"},
			2,
		},
		"oldest, of a burst longer than the queue": {
			DropOldest, func(q *queue) {
				q.put(0, queueRun("a", 1, 2))
				q.put(0, queueRun("a", numbers(3, 9)...), queueRun("b", 10))
			},
			[]string{"lag 7", "a 8", "a 9", "b 10"},
			7,
		},
		"oldest, on both sides of an advisory": {
			DropOldest, func(q *queue) {
				q.put(0, queueRun("a", 1, 2))
				q.advise(queueAdvisory(ActionDisconnect))
				q.advise(queueAdvisory(ActionReconnect))
				q.put(0, queueRun("a", 3))
				q.put(0, queueRun("a", 4, 5, 6))
			},
			[]string{"lag 2", "disconnect", "reconnect", "lag 1", "a 4", "a 5", "a 6"},
			3,
		},
		"oldest, behind advisories at the front": {
			DropOldest, func(q *queue) {
				q.advise(queueAdvisory(ActionConnect))
				q.put(0, queueRun("a", 1, 2, 3))
				q.put(0, queueRun("a", 4))
				q.put(0, queueRun("a", 5))
			},
			[]string{"connect", "lag 2", "a 3", "a 4", "a 5"},
			2,
		},
		"newest": {
			DropNewest, func(q *queue) { q.put(0, queueRun("a", 1, 2)); q.put(0, queueRun("a", 3, 4), queueRun("b", 5)) },
			[]string{"a 1", "a 2", "a 3", "lag 2"},
			2,
		},
		"newest, in two places": {
			DropNewest, func(q *queue) {
				q.put(0, queueRun("a", 1, 2, 3, 4))
				q.next()
				q.done()
				q.put(0, queueRun("a", 5, 6))
			},
			[]string{"a 2", "a 3", "lag 1", "a 5", "lag 1"},
			2,
		},
		"newest, on both sides of an advisory": {
			DropNewest, func(q *queue) {
				q.put(0, queueRun("a", 1, 2, 3, 4))
				q.advise(queueAdvisory(ActionDisconnect))
				q.put(0, queueRun("a", 5, 6))
			},
			[]string{"a 1", "a 2", "a 3", "lag 1", "disconnect", "lag 2"},
			3,
		},
		"close": {
			CloseConsumer, func(q *queue) {
				q.advise(queueAdvisory(ActionConnect))
				q.put(0, queueRun("a", 1, 2, 3))
				q.put(0, queueRun("a", 4))
				q.put(0, queueRun("a", 5))
				q.advise(queueAdvisory(ActionDisconnect))
			},
			[]string{"close"},
			4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(3, c.overflow, &brake{})
			c.fill(&q)
			require.Equal(t, c.want, queueTake(&q))
			require.Equal(t, c.dropped, q.droppedSoFar())
		})
	}
}

func TestQueueCloseNamesTheCause(t *testing.T) {
	q := newQueue(1, CloseConsumer, &brake{})
	wake, overflowed := q.put(0, queueRun("a", 1, 2, 3))
	require.True(t, wake)
	require.True(t, overflowed)
	last := q.next().Advisory
	require.ErrorIs(t, last.Err, ErrSlowConsumer)
	require.Equal(t, uint64(3), last.Dropped)
	require.True(t, last.Final)
}

// What a consumer loses by being closed is counted to the last event: what was queued, what came, what was in hand.
func TestQueueCloseCountsAll(t *testing.T) {
	q := newQueue(640, CloseConsumer, &brake{})
	q.put(0, queueRun("a", make([]int, 10)...))
	require.NotNil(t, q.next(), "it has ten in hand, and is at the first")
	q.put(0, queueRun("a", make([]int, 640)...))
	q.put(0, queueRun("a", 1, 2))
	q.done()
	last := q.next()
	require.Equal(t, ActionClose, last.Advisory.Action)
	require.Equal(t, uint64(9+640+2), last.Advisory.Dropped)
	require.Equal(t, uint64(9+640+2), q.droppedSoFar())
	require.JSONEq(t, `{"action":"close","final":true}`, string(last.Value))
}

// A consumer is scheduled once, for as long as something waits for it.
func TestQueueWakes(t *testing.T) {
	q := newQueue(8, DropOldest, &brake{})
	wake, _ := q.put(0, queueRun("a", 1))
	require.True(t, wake)
	wake, _ = q.put(0, queueRun("a", 2))
	require.False(t, wake, "it is scheduled already")
	require.False(t, q.advise(queueAdvisory(ActionDisconnect)))

	require.Equal(t, "a 1", eventWord(q.next()))
	require.False(t, q.advise(queueAdvisory(ActionReconnect)), "a worker has it")
	q.done()
	require.Equal(t, []string{"a 2", "disconnect", "reconnect"}, queueTake(&q))
	require.True(t, q.advise(queueAdvisory(ActionDisconnect)), "the worker has left")

	require.False(t, q.seal(queueAdvisory(ActionStop), false))
	require.Equal(t, []string{"disconnect", "stop"}, queueTake(&q))
	wake, _ = q.put(0, queueRun("a", 3))
	require.False(t, wake)
	require.False(t, q.advise(queueAdvisory(ActionConnect)))
	require.False(t, q.seal(queueAdvisory(ActionClose), true), "it has had its last event")
	require.Nil(t, q.next())
}

// A full queue is reported once, and again only after the consumer has caught up.
func TestQueueReportsOverflowOnce(t *testing.T) {
	q := newQueue(2, DropOldest, &brake{})
	for _, want := range []bool{false, true, false} {
		_, overflowed := q.put(0, queueRun("a", 1, 2))
		require.Equal(t, want, overflowed)
	}
	queueTake(&q)
	_, overflowed := q.put(0, queueRun("a", 1, 2, 3))
	require.True(t, overflowed)
}

func TestQueueSeal(t *testing.T) {
	for name, c := range map[string]struct {
		seal func(q *queue)
		want []string
	}{
		"behind the rest":        {func(q *queue) { q.seal(queueAdvisory(ActionStop), false) }, []string{"a 1", "a 2", "stop"}},
		"instead of the rest":    {func(q *queue) { q.seal(queueAdvisory(ActionClose), true) }, []string{"close"}},
		"first one chooses":      {func(q *queue) { q.seal(queueAdvisory(ActionClose), false); q.seal(queueAdvisory(ActionStop), false) }, []string{"a 1", "a 2", "close"}},
		"later one may cut":      {func(q *queue) { q.seal(queueAdvisory(ActionStop), false); q.seal(queueAdvisory(ActionClose), true) }, []string{"stop"}},
		"nothing comes after it": {func(q *queue) { q.seal(queueAdvisory(ActionStop), false); q.put(0, queueRun("a", 3)) }, []string{"a 1", "a 2", "stop"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(8, DropOldest, &brake{})
			q.put(0, queueRun("a", 1, 2))
			c.seal(&q)
			require.Equal(t, c.want, queueTake(&q))
		})
	}
}

// Unsubscribed events are delivered neither from the queue nor out of the worker's hand.
func TestQueueRevoke(t *testing.T) {
	q := newQueue(640, DropOldest, &brake{})
	q.put(0, queueRun("a", 1, 2, 3))
	require.Equal(t, "a 1", eventWord(q.next()))
	require.Len(t, q.hand, 3, "the worker has all of them in hand")
	q.done()
	q.put(0, queueRun("b", 4), queueRun("a", 5), queueRun("b", 6))
	q.advise(newAdvisory(Advisory{Action: ActionSubscribe, Topic: "a"}))
	q.advise(newAdvisory(Advisory{Action: ActionSubscribe, Topic: "b"}))
	q.revoke("a")
	q.put(0, queueRun("a", 7)) // subscribed again meanwhile
	require.Equal(t, []string{"b 4", "b 6", "subscribe a", "subscribe b", "a 7"}, queueTake(&q))
}

// Runs are shared with other consumers: what one queue drops, cuts or revokes, the others still have.
func TestQueueSharesRuns(t *testing.T) {
	shared := queueRun("a", 1, 2, 3, 4, 5)
	small, large := newQueue(2, DropOldest, &brake{}), newQueue(640, DropOldest, &brake{})
	revoked, newest := newQueue(640, DropOldest, &brake{}), newQueue(3, DropNewest, &brake{})
	for _, q := range []*queue{&small, &large, &revoked, &newest} {
		q.put(0, shared)
	}
	require.Equal(t, "a 1", eventWord(revoked.next()))
	revoked.revoke("a")
	revoked.done()
	require.Nil(t, revoked.next())
	small.put(0, queueRun("a", 6))
	require.Equal(t, []string{"lag 4", "a 5", "a 6"}, queueTake(&small))
	require.Equal(t, []string{"a 1", "a 2", "a 3", "lag 2"}, queueTake(&newest))
	require.Equal(t, []string{"a 1", "a 2", "a 3", "a 4", "a 5"}, queueTake(&large))
	require.Equal(t, queueRun("a", 1, 2, 3, 4, 5), shared)
}

func TestQueueCurrent(t *testing.T) {
	q := newQueue(640, DropOldest, &brake{})
	is := func(topic string, busy bool, place uint64, waiting int) {
		t.Helper()
		gotTopic, gotBusy, gotPlace, gotWaiting := q.current()
		require.Equal(t, []any{topic, busy, place, waiting}, []any{gotTopic, gotBusy, gotPlace, gotWaiting})
	}
	q.put(0, queueRun("a", 1, 2), queueRun("b", 3))
	is("", false, 0, 3)
	q.next()
	is("a", true, 0, 2)
	q.done()
	q.next()
	is("a", true, 1, 1)
	q.done()
	q.next()
	is("b", true, 2, 0)
	q.done()
	is("", false, 3, 0)
	require.Nil(t, q.next())
	is("", false, 3, 0)
}

// A loop that is left takes nothing more, and nothing is counted as waiting for it.
func TestQueueAbandon(t *testing.T) {
	q := newQueue(640, DropOldest, &brake{})
	q.put(0, queueRun("a", 1, 2), queueRun("b", 3))
	q.next()
	q.done()
	q.seal(queueAdvisory(ActionClose), true)
	q.abandon()
	_, busy, place, waiting := q.current()
	require.False(t, busy)
	require.Equal(t, uint64(1), place)
	require.Zero(t, waiting)
	wake, _ := q.put(0, queueRun("a", 4))
	require.False(t, wake)
	require.Nil(t, q.next())
}

// An idle consumer keeps no room for the bursts that it once had.
func TestQueueGivesRoomBack(t *testing.T) {
	q := newQueue(16384, DropOldest, &brake{})
	for i := range 1000 {
		q.put(0, queueRun("a", i))
	}
	require.Len(t, queueTake(&q), 1000)
	require.LessOrEqual(t, cap(q.ring.slots), idleRing)
	require.Nil(t, q.hand)
}

// However much is dropped, a queue holds no more than its limit and one lag in each place.
func TestQueueIsBounded(t *testing.T) {
	for _, overflow := range []Overflow{DropOldest, DropNewest} {
		q := newQueue(4, overflow, &brake{})
		for n := range 10_000 {
			if n%2500 == 0 {
				q.advise(queueAdvisory(ActionDisconnect))
			}
			q.put(0, queueRun("a", n, n+1))
		}
		require.LessOrEqual(t, len(q.lead)+len(q.ring.slots), 4+2*4+4)
		require.Equal(t, uint64(20_000-4), q.droppedSoFar())
	}
}

// One goroutine puts while another takes: every gap in the numbers is announced, where it is and exactly.
func TestQueueConcurrently(t *testing.T) {
	for name, overflow := range map[string]Overflow{"DropOldest": DropOldest, "DropNewest": DropNewest} {
		t.Run(name, func(t *testing.T) {
			const sent = 50_000
			q := newQueue(50, overflow, &brake{})
			wakes := make(chan struct{}, 1)
			wake := func(yes bool) {
				if yes {
					wakes <- struct{}{}
				}
			}
			go func() {
				rnd := rand.New(rand.NewPCG(1, 2))
				for n := 0; n < sent; {
					var numbers []int
					for range min(1+rnd.IntN(70), sent-n) {
						numbers = append(numbers, n)
						n++
					}
					yes, _ := q.put(0, queueRun("a", numbers...))
					wake(yes)
				}
				wake(q.seal(queueAdvisory(ActionStop), false))
			}()

			next, seen, dropped := 0, 0, 0
			for finished := false; !finished; {
				<-wakes
				for ev := q.next(); ev != nil; ev = q.next() {
					switch a := ev.Advisory; {
					case a == nil:
						require.Equal(t, strconv.Itoa(next), string(ev.Payload))
						next++
						seen++
					case a.Action == ActionLag:
						next += int(a.Dropped)
						dropped += int(a.Dropped)
					default:
						finished = true
					}
					q.done()
				}
			}
			require.Equal(t, sent, seen+dropped)
			require.Equal(t, uint64(dropped), q.droppedSoFar())
		})
	}
}

// The hand belongs to the next turn as soon as next has said that nothing waits: nothing of the old turn touches it then.
func TestQueueTurnsDoNotOverlap(t *testing.T) {
	q := newQueue(64, DropOldest, &brake{})
	const sent = 200_000
	var turns sync.WaitGroup
	seen := 0 // owned by whoever has the turn, which the race detector confirms
	turn := func() {
		for ev := q.next(); ev != nil; ev = q.next() {
			if ev.Advisory == nil { // else a lag
				seen++
			}
			q.done()
		}
	}
	for range fewer(sent) {
		if wake, _ := q.put(0, queueRun("a", 1)); wake {
			turns.Go(turn)
		}
	}
	turns.Wait()
	require.Equal(t, fewer(sent), seen+int(q.droppedSoFar()))
}
