package pghub

import (
	"math/rand/v2"
	"strconv"
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
	for hand := q.take(); len(hand) > 0; hand = q.take() {
		for _, ev := range hand {
			words = append(words, eventWord(ev))
			q.delivered.Add(1)
		}
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
			DropOldest, func(q *queue) { q.put(queueRun("a", 1, 2), queueRun("b", 3)) },
			[]string{"a 1", "a 2", "b 3"},
			0,
		},
		"oldest": {
			DropOldest, func(q *queue) { q.put(queueRun("a", 1, 2, 3)); q.put(queueRun("a", 4, 5)) },
			[]string{"lag 2", "a 3", "a 4", "a 5"},
			2,
		},
		"oldest again": {
			DropOldest, func(q *queue) { q.put(queueRun("a", 1, 2, 3)); q.put(queueRun("a", 4)); q.put(queueRun("b", 5)) },
			[]string{"lag 2", "a 3", "a 4", "b 5"},
			2,
		},
		"oldest, of a burst longer than the queue": {
			DropOldest, func(q *queue) { q.put(queueRun("a", 1, 2)); q.put(queueRun("a", numbers(3, 9)...), queueRun("b", 10)) },
			[]string{"lag 7", "a 8", "a 9", "b 10"},
			7,
		},
		"oldest, on both sides of an advisory": {
			DropOldest, func(q *queue) {
				q.put(queueRun("a", 1, 2))
				q.advise(queueAdvisory(ActionDisconnect))
				q.advise(queueAdvisory(ActionReconnect))
				q.put(queueRun("a", 3))
				q.put(queueRun("a", 4, 5, 6))
			},
			[]string{"lag 2", "disconnect", "reconnect", "lag 1", "a 4", "a 5", "a 6"},
			3,
		},
		"oldest, behind advisories at the front": {
			DropOldest, func(q *queue) {
				q.advise(queueAdvisory(ActionConnect))
				q.put(queueRun("a", 1, 2, 3))
				q.put(queueRun("a", 4))
				q.put(queueRun("a", 5))
			},
			[]string{"connect", "lag 2", "a 3", "a 4", "a 5"},
			2,
		},
		"newest": {
			DropNewest, func(q *queue) { q.put(queueRun("a", 1, 2)); q.put(queueRun("a", 3, 4), queueRun("b", 5)) },
			[]string{"a 1", "a 2", "a 3", "lag 2"},
			2,
		},
		"newest, in two places": {
			DropNewest, func(q *queue) {
				q.put(queueRun("a", 1, 2, 3, 4))
				q.take() // one of them
				q.delivered.Add(1)
				q.put(queueRun("a", 5, 6))
			},
			[]string{"a 2", "a 3", "lag 1", "a 5", "lag 1"},
			2,
		},
		"newest, on both sides of an advisory": {
			DropNewest, func(q *queue) {
				q.put(queueRun("a", 1, 2, 3, 4))
				q.advise(queueAdvisory(ActionDisconnect))
				q.put(queueRun("a", 5, 6))
			},
			[]string{"a 1", "a 2", "a 3", "lag 1", "disconnect", "lag 2"},
			3,
		},
		"close": {
			CloseConsumer, func(q *queue) {
				q.advise(queueAdvisory(ActionConnect))
				q.put(queueRun("a", 1, 2, 3))
				q.put(queueRun("a", 4))
				q.put(queueRun("a", 5))
				q.advise(queueAdvisory(ActionDisconnect))
			},
			[]string{"close"},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(3, c.overflow)
			c.fill(&q)
			require.Equal(t, c.want, queueTake(&q))
			require.Equal(t, c.dropped, q.droppedSoFar())
		})
	}
}

func TestQueueCloseNamesTheCause(t *testing.T) {
	q := newQueue(1, CloseConsumer)
	wake, overflowed, _ := q.put(queueRun("a", 1, 2, 3))
	require.True(t, wake)
	require.True(t, overflowed)
	last := q.take()[0].Advisory
	require.ErrorIs(t, last.Err, ErrSlowConsumer)
	require.Equal(t, uint64(2), last.Dropped)
	require.True(t, last.Final)
}

// A consumer is scheduled once, for as long as something waits for it.
func TestQueueWakes(t *testing.T) {
	q := newQueue(8, DropOldest)
	wake, _, _ := q.put(queueRun("a", 1))
	require.True(t, wake)
	wake, _, _ = q.put(queueRun("a", 2))
	require.False(t, wake, "it is scheduled already")
	require.False(t, q.advise(queueAdvisory(ActionDisconnect)))

	require.Len(t, q.take(), 1)
	require.False(t, q.advise(queueAdvisory(ActionReconnect)), "a worker has it")
	q.delivered.Add(1)
	require.Equal(t, []string{"a 2", "disconnect", "reconnect"}, queueTake(&q))
	require.True(t, q.advise(queueAdvisory(ActionDisconnect)), "the worker has left")

	require.False(t, q.seal(queueAdvisory(ActionStop), false))
	require.Equal(t, []string{"disconnect", "stop"}, queueTake(&q))
	wake, _, _ = q.put(queueRun("a", 3))
	require.False(t, wake)
	require.False(t, q.advise(queueAdvisory(ActionConnect)))
	require.False(t, q.seal(queueAdvisory(ActionClose), true), "it has had its last event")
	require.Empty(t, q.take())
}

// A full queue is reported once, and again only after the consumer has caught up.
func TestQueueReportsOverflowOnce(t *testing.T) {
	q := newQueue(2, DropOldest)
	for _, want := range []bool{false, true, false} {
		_, overflowed, _ := q.put(queueRun("a", 1, 2))
		require.Equal(t, want, overflowed)
	}
	queueTake(&q)
	_, overflowed, _ := q.put(queueRun("a", 1, 2, 3))
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
		"nothing comes after it": {func(q *queue) { q.seal(queueAdvisory(ActionStop), false); q.put(queueRun("a", 3)) }, []string{"a 1", "a 2", "stop"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(8, DropOldest)
			q.put(queueRun("a", 1, 2))
			c.seal(&q)
			require.Equal(t, c.want, queueTake(&q))
		})
	}
}

// Unsubscribed events are delivered neither from the queue nor out of the worker's hand.
func TestQueueRevoke(t *testing.T) {
	q := newQueue(640, DropOldest)
	q.put(queueRun("a", 1, 2, 3))
	hand := q.take()
	require.Len(t, hand, 3, "the worker has all of them in hand")
	q.delivered.Add(1) // and has delivered one
	q.put(queueRun("b", 4), queueRun("a", 5), queueRun("b", 6))
	q.advise(newAdvisory(Advisory{Action: ActionSubscribe, Topic: "a"}))
	q.revoke("a")

	require.True(t, q.recall.Load())
	require.Empty(t, q.sift(hand[1:]))
	require.False(t, q.recall.Load())
	q.put(queueRun("a", 7)) // subscribed again meanwhile
	require.Equal(t, []string{"b 4", "b 6", "subscribe a", "a 7"}, queueTake(&q))
}

// Runs are shared with other consumers: what one queue drops, cuts or revokes, the others still have.
func TestQueueSharesRuns(t *testing.T) {
	shared := queueRun("a", 1, 2, 3, 4, 5)
	small, large := newQueue(2, DropOldest), newQueue(640, DropOldest)
	revoked, newest := newQueue(640, DropOldest), newQueue(3, DropNewest)
	for _, q := range []*queue{&small, &large, &revoked, &newest} {
		q.put(shared)
	}
	hand := revoked.take()
	revoked.revoke("a")
	require.Empty(t, revoked.sift(hand))
	small.put(queueRun("a", 6))
	require.Equal(t, []string{"lag 4", "a 5", "a 6"}, queueTake(&small))
	require.Equal(t, []string{"a 1", "a 2", "a 3", "lag 2"}, queueTake(&newest))
	require.Equal(t, []string{"a 1", "a 2", "a 3", "a 4", "a 5"}, queueTake(&large))
	require.Equal(t, queueRun("a", 1, 2, 3, 4, 5), shared)
}

// What a worker had in hand when its goroutine ended goes to the next one.
func TestQueueWorkerEnds(t *testing.T) {
	q := newQueue(640, DropOldest)
	q.put(queueRun("a", 1, 2, 3), queueRun("b", 4))
	require.Len(t, q.take(), 3)
	q.delivered.Add(1)
	require.Equal(t, []string{"a 2", "a 3", "b 4"}, queueTake(&q))

	q.put(queueRun("a", 1, 2, 3), queueRun("b", 4))
	q.take()
	q.delivered.Add(1)
	q.revoke("a")
	require.Equal(t, []string{"b 4"}, queueTake(&q))
}

func TestQueueCurrent(t *testing.T) {
	q := newQueue(640, DropOldest)
	q.put(queueRun("a", 1, 2), queueRun("b", 3))
	ev, place, waiting := q.current()
	require.Nil(t, ev)
	require.Zero(t, place)
	require.Equal(t, 3, waiting)
	hand := q.take()
	ev, place, waiting = q.current()
	require.Equal(t, hand[0], ev)
	require.Zero(t, place)
	require.Equal(t, 2, waiting)
	q.delivered.Add(1)
	ev, place, waiting = q.current()
	require.Equal(t, hand[1], ev)
	require.Equal(t, uint64(1), place)
	require.Equal(t, 1, waiting)
}

// An idle consumer keeps no room for the bursts that it once had.
func TestQueueGivesRoomBack(t *testing.T) {
	q := newQueue(16384, DropOldest)
	for i := range 1000 {
		q.put(queueRun("a", i))
	}
	require.Len(t, queueTake(&q), 1000)
	require.LessOrEqual(t, cap(q.ring.slots), idleRing)
	require.Nil(t, q.hand)
}

// However much is dropped, a queue holds no more than its limit and one lag in each place.
func TestQueueIsBounded(t *testing.T) {
	for _, overflow := range []Overflow{DropOldest, DropNewest} {
		q := newQueue(4, overflow)
		for n := range 10_000 {
			if n%2500 == 0 {
				q.advise(queueAdvisory(ActionDisconnect))
			}
			q.put(queueRun("a", n, n+1))
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
			q := newQueue(50, overflow)
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
					yes, _, _ := q.put(queueRun("a", numbers...))
					wake(yes)
				}
				wake(q.seal(queueAdvisory(ActionStop), false))
			}()

			next, seen, dropped := 0, 0, 0
			for finished := false; !finished; {
				<-wakes
				for hand := q.take(); len(hand) > 0; hand = q.take() {
					for _, ev := range hand {
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
						q.delivered.Add(1)
					}
				}
			}
			require.Equal(t, sent, seen+dropped)
			require.Equal(t, uint64(dropped), q.droppedSoFar())
		})
	}
}
