package pghub

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// routerWorld is a random history of a router together with what has been promised to whom.
type routerWorld struct {
	t   *testing.T
	rnd *rand.Rand
	hub *Hub
	s   *unitServer
	up  bool // a session is attached

	consumers []*Consumer
	calls     []*routerCall
	left      map[routerPlace]int // when a topic was last unsubscribed, in steps
	refused   map[string]bool     // in the present session
	serial    int                 // of notifications
	step      int
	due       map[*Consumer][]string // what its stream has to hold, in this order
	may       map[*Consumer][]string // what it may hold
	got       map[*Consumer][]string
}

type routerPlace struct {
	c     *Consumer
	topic string
}

type routerCall struct {
	c      *Consumer
	topics []string
	step   int
	req    *request
}

var routerTopics = []string{"a", "b", "c", "d"}

// promised says whether a call has been told that it gets the events of a topic.
func (w *routerWorld) promised(p routerPlace) bool {
	for _, call := range w.calls {
		if call.c == p.c && slices.Contains(call.topics, p.topic) && routerDone(call.req) && call.req.err == nil && call.step > w.left[p] {
			return true
		}
	}
	return false
}

func (w *routerWorld) topics(n int) (topics []string) {
	for range 1 + w.rnd.IntN(n) {
		topics = append(topics, routerTopics[w.rnd.IntN(len(routerTopics))])
	}
	return topics
}

func (w *routerWorld) leave(p routerPlace) {
	w.left[p] = w.step
	w.due[p.c] = slices.DeleteFunc(w.due[p.c], func(word string) bool { return strings.HasPrefix(word, p.topic+" ") })
}

func (w *routerWorld) closeConsumer(i int) {
	c := w.consumers[i]
	w.take(c)
	w.hub.router.remove(c)
	for _, topic := range routerTopics {
		w.leave(routerPlace{c, topic})
	}
	w.check(c)
	w.consumers[i] = unitConsumer(w.t, w.hub, ConsumerConfig{})
}

func (w *routerWorld) notify() {
	listens := w.up && w.hub.router.phase == phaseListening
	var burst []string
	for range 1 + w.rnd.IntN(3) {
		w.serial++
		topic := routerTopics[w.rnd.IntN(len(routerTopics))]
		word := topic + " " + strconv.Itoa(w.serial)
		burst = append(burst, word)
		for _, c := range w.consumers {
			p := routerPlace{c, topic}
			if listens && w.promised(p) && !w.refused[topic] {
				require.True(w.t, w.s.listening[topic], "the session was announced, but does not listen to %s", topic)
				w.due[c] = append(w.due[c], word)
			}
			if slices.Contains(c.Topics(), topic) {
				w.may[c] = append(w.may[c], word)
			}
		}
	}
	if w.up {
		w.s.notify(burst...)
	}
}

func (w *routerWorld) take(c *Consumer) { w.got[c] = append(w.got[c], unitTake(c)...) }

// check compares a consumer's stream with what was due.
func (w *routerWorld) check(c *Consumer) {
	w.take(c)
	subscribed := make(map[string]bool)
	last, connected := 0, true
	due := w.due[c]
	for _, word := range w.got[c] {
		topic, number, _ := strings.Cut(word, " ")
		switch topic {
		case "subscribe":
			subscribed[number] = true
		case "connect":
		case "disconnect", "reconnect":
			require.Equal(w.t, topic == "reconnect", !connected, "%q", w.got[c])
			connected = !connected
		default:
			require.True(w.t, connected, "%s came within a gap: %q", word, w.got[c])
			require.True(w.t, subscribed[topic], "%s came before its subscription was announced: %q", word, w.got[c])
			n, err := strconv.Atoi(number)
			require.NoError(w.t, err)
			require.Greater(w.t, n, last, "%q", w.got[c])
			require.Contains(w.t, w.may[c], word, "was not subscribed to")
			last = n
			if len(due) > 0 && due[0] == word {
				due = due[1:]
			}
		}
	}
	require.Empty(w.t, due, "was promised, but did not come: %q", w.got[c])
}

func (w *routerWorld) act() {
	w.step++
	r, i := w.hub.router, w.rnd.IntN(len(w.consumers))
	c := w.consumers[i]
	switch w.rnd.IntN(24) {
	case 0, 1, 2, 3:
		topics := w.topics(3)
		w.calls = append(w.calls, &routerCall{c, topics, w.step, routerSubscribe(w.t, c, topics...)})
	case 4, 5:
		topics := w.topics(2)
		w.take(c)
		req := r.unsubscribe(c, topics)
		for _, topic := range topics {
			w.leave(routerPlace{c, topic})
		}
		w.calls = append(w.calls, &routerCall{c, nil, w.step, req})
	case 6, 7:
		if call := w.calls; len(call) > 0 {
			if given := call[w.rnd.IntN(len(call))]; given.topics != nil && !routerDone(given.req) {
				require.Error(w.t, r.giveUp(given.req, errors.New("context ended")))
			}
		}
	case 8, 9, 10, 11:
		if w.up && len(w.s.asked) == 0 {
			w.s.ask()
		}
	case 12, 13, 14, 15:
		if w.up {
			for _, st := range w.s.asked {
				if len(st) == 1 && st[0].Listen {
					w.refused[st[0].Topic] = w.s.refuses[st[0].Topic]
				}
			}
			w.s.answer()
		}
	case 16:
		if w.up = !w.up; w.up {
			w.s.attach()
			clear(w.refused)
		} else {
			w.s.detach(io.EOF)
		}
	case 17:
		if topic := routerTopics[w.rnd.IntN(len(routerTopics))]; w.s.announced > 0 && w.rnd.IntN(3) == 0 {
			w.s.refuses[topic] = !w.s.refuses[topic]
		}
		r.Retry()
	case 18:
		if w.rnd.IntN(4) == 0 {
			w.closeConsumer(i)
		}
	case 19:
		w.take(c)
	default:
		w.notify()
	}
}

// finish lets everything settle and checks what has to hold then.
func (w *routerWorld) finish() {
	if !w.up {
		w.up = true
		w.s.attach()
	}
	w.s.answer()
	clear(w.s.refuses)
	clear(w.refused)
	w.hub.router.Retry()
	w.s.settle()
	for _, call := range w.calls {
		require.True(w.t, routerDone(call.req), "a call of %v still waits", call.topics)
	}
	wanted := make(map[string]bool)
	for _, c := range w.consumers {
		var topics []string
		for _, topic := range routerTopics {
			if w.promised(routerPlace{c, topic}) {
				topics = append(topics, topic)
				wanted[topic] = true
			}
		}
		require.ElementsMatch(w.t, topics, c.Topics())
	}
	require.Equal(w.t, wanted, w.s.listening, "the server listens to what is wanted, and to nothing else")
	require.Len(w.t, w.hub.router.channels, len(wanted), "nothing is kept of other channels")
	require.Zero(w.t, w.hub.router.owed)
	require.False(w.t, w.s.ask())
	w.notify()
	for _, c := range w.consumers {
		w.check(c)
	}
}

// Random histories of subscriptions, answers, refusals, losses and notifications.
func TestRouterModel(t *testing.T) {
	for seed := range uint64(500) {
		runRouterModel(t, seed)
	}
}

func runRouterModel(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	hub := routerHub(t, Config{})
	w := &routerWorld{
		t: t, rnd: rand.New(rand.NewPCG(seed, 0)), hub: hub, s: newUnitServer(hub),
		left: make(map[routerPlace]int), refused: make(map[string]bool),
		due: make(map[*Consumer][]string), may: make(map[*Consumer][]string), got: make(map[*Consumer][]string),
	}
	for range 3 {
		w.consumers = append(w.consumers, unitConsumer(t, hub, ConsumerConfig{}))
	}
	hub.router.start()
	for range 120 {
		w.act()
	}
	w.finish()
}
