package pghub

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// batches is a BatchHandler that remembers its calls, each as words in one line. The first event with key 0 makes it wait.
type batches struct {
	diary
	busy    chan struct{} // closed when it waits
	release chan struct{}
	once    sync.Once
}

func newBatches() *batches {
	return &batches{busy: make(chan struct{}), release: make(chan struct{})}
}

func (b *batches) handle(_ context.Context, events []*Event) {
	words := make([]string, len(events))
	for i, ev := range events {
		words[i] = eventWord(ev)
	}
	b.note("%s", strings.Join(words, ", "))
	if ev := events[0]; len(ev.Key) == 1 && ev.Key[0] == 0 {
		b.once.Do(func() {
			close(b.busy)
			<-b.release
		})
	}
}

// batchConsumer makes a consumer, in a bubble, on a hub that is started then.
func batchConsumer(t *testing.T, hub *Hub, b *batches, cfg BatchConfig) *Consumer {
	t.Helper()
	if cfg.Topics == nil {
		cfg.Topics = []string{"a"}
	}
	c, err := hub.BatchConsumer(within(t), b.handle, &cfg)
	require.NoError(t, err)
	startHub(t, hub)
	synctest.Wait() // connect and subscribe have been handled
	return c
}

func TestBatchTakesWhatWaits(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{}), newBatches()
		c := batchConsumer(t, hub, b, BatchConfig{Max: 4})
		server.Notify("a", "e0")
		<-b.busy
		for i := range 10 {
			server.Notify("a", fmt.Sprint("e", i+1))
		}
		synctest.Wait()
		require.Equal(t, 10, c.Stats().Queued)
		close(b.release)
		synctest.Wait()
		require.Equal(t, []string{"connect", "subscribe a", "a e0", "a e1, a e2, a e3, a e4", "a e5, a e6, a e7, a e8", "a e9, a e10"}, b.all())
		require.EqualValues(t, 13, c.Stats().Delivered)
		require.Zero(t, c.Stats().Queued)
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, "stop", b.all()[6])
	})
}

// Supervisory events are alone, in their place, and Resync is called between the batches around a gap.
func TestBatchEndsAtAGap(t *testing.T) {
	for name, latest := range map[string]bool{"all": false, "latest": true} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub, b := fakeHub(t, server, Config{}), newBatches()
				batchConsumer(t, hub, b, BatchConfig{Latest: latest, ConsumerConfig: ConsumerConfig{Resync: func(context.Context, Gap) error {
					b.note("resync")
					return nil
				}}})
				server.Notify("a", "e0")
				<-b.busy
				server.Notify("a", "e1")
				server.Notify("a", "e2")
				synctest.Wait()
				server.Kill()
				passing(t, time.Second, func() bool { return hub.Stats().Reconnects == 1 })
				server.Notify("a", "e1")
				server.Notify("a", "e2")
				synctest.Wait()
				close(b.release)
				require.NoError(t, hub.Stop(within(t)))
				require.Equal(t, []string{"connect", "subscribe a", "a e0", "a e1, a e2", "disconnect", "reconnect", "resync", "a e1, a e2", "stop"}, b.all())
			})
		})
	}
}

// An announced gap is alone too, and Resync is called behind it.
func TestBatchEndsAtAnAnnouncedGap(t *testing.T) {
	for name, latest := range map[string]bool{"all": false, "latest": true} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub, b := fakeHub(t, server, Config{}), newBatches()
				batchConsumer(t, hub, b, BatchConfig{Latest: latest, ConsumerConfig: ConsumerConfig{QueueSize: 100_000, Resync: func(context.Context, Gap) error {
					b.note("resync")
					return nil
				}}})
				server.Notify("a", "e0")
				<-b.busy
				const mark = `e:{"pghub":"gap"}`
				for _, payload := range []string{"e1", "e2", mark, "e1", mark, mark, "e3", "e4"} {
					server.Notify("a", payload)
					if latest { // each in a run of its own, once
						synctest.Wait()
					}
				}
				synctest.Wait()
				close(b.release)
				synctest.Wait()
				require.Equal(t, []string{"a e1, a e2", "a " + mark, "resync", "a e1", "a " + mark, "resync", "a " + mark, "resync", "a e3, a e4"}, mustSkip(t, b.all(), "a e0"))
			})
		})
	}
}

// Of those about the same topic and key the latest is left, in its place; Max counts these.
func TestBatchLatest(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{}), newBatches()
		c := batchConsumer(t, hub, b, BatchConfig{Latest: true, Max: 3, ConsumerConfig: ConsumerConfig{Topics: []string{"a", "b"}}})
		server.Notify("a", "e0")
		<-b.busy
		for _, word := range []string{
			"a e1:1", "a e2:1", "a e1:2", "b e1:1", // another topic
			"a e1:3", "a e1,2", "a e1:4", "a e12", // other keys
			"b e", "a e", "b e:1", "a e12:1",
		} {
			topic, payload, _ := strings.Cut(word, " ")
			server.Notify(topic, payload)
		}
		synctest.Wait()
		close(b.release)
		synctest.Wait()
		require.Equal(t, []string{"a e2:1, a e1:2, b e1:1", "a e1,2, a e1:4, a e12", "a e, b e:1, a e12:1"}, mustSkip(t, b.all(), "a e0"))
		require.EqualValues(t, 4+12, c.Stats().Delivered)
	})
}

// mustSkip is what follows a line.
func mustSkip(t *testing.T, lines []string, line string) []string {
	t.Helper()
	for i, l := range lines {
		if l == line {
			return lines[i+1:]
		}
	}
	require.Contains(t, lines, line)
	return nil
}

// Ten thousand events of one row that wait are one call with one event; some of another row keep their place.
func TestBatchLatestFoldsMany(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub, b := fakeHub(t, server, Config{}), newBatches()
		c := batchConsumer(t, hub, b, BatchConfig{Latest: true})
		server.Notify("a", "e0")
		<-b.busy
		for i := range 10_000 {
			if i%1000 == 0 {
				server.Notify("a", fmt.Sprintf("e%d", 1000+i))
			}
			server.Notify("a", fmt.Sprintf("e7:%d", i))
		}
		for c.Stats().Queued < 10_010 {
			time.Sleep(time.Millisecond) // of the bubble: the brake pauses
		}
		close(b.release)
		synctest.Wait()
		require.Equal(t, []string{"a e1000, a e2000, a e3000, a e4000, a e5000, a e6000, a e7000, a e8000, a e9000, a e10000, a e7:9999"}, mustSkip(t, b.all(), "a e0"))
	})
}

// A handler that panics or ends its goroutine costs its own batch; the next one comes.
func TestBatchHandlerFails(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("no good") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				errs := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: errs.onError})
				var d diary
				release := make(chan struct{})
				c, err := hub.BatchConsumer(within(t), func(_ context.Context, events []*Event) {
					if events[0].Advisory != nil {
						return
					}
					d.note("%d from %s", len(events), eventWord(events[0]))
					if events[0].Key[0] == 1 {
						<-release
						fail()
					}
				}, &BatchConfig{Max: 2, Delay: time.Second, ConsumerConfig: ConsumerConfig{Topics: []string{"a"}}})
				require.NoError(t, err)
				startHub(t, hub)
				synctest.Wait()
				for i := range 5 {
					server.Notify("a", fmt.Sprint("e", i+1))
				}
				synctest.Wait()
				close(release) // the others have come
				passing(t, time.Second, func() bool { return len(d.all()) == 3 })
				require.Equal(t, []string{"2 from a e1", "2 from a e3", "1 from a e5"}, d.all())
				require.ErrorIs(t, errs.all()[0], ErrPanic)
				require.EqualValues(t, 1, c.Stats().Panics)
				require.EqualValues(t, 7, c.Stats().Delivered)
			})
		})
	}
}

func TestBatchNamesWhatIsWrong(t *testing.T) {
	hub := unitHub(t, Config{})
	_, err := hub.BatchConsumer(within(t), nil, nil)
	require.ErrorContains(t, err, "the handler is nil")
	for _, cfg := range []BatchConfig{{Max: -1}, {Delay: -1}} {
		_, err = hub.BatchConsumer(within(t), newBatches().handle, &cfg)
		require.ErrorContains(t, err, "must not be negative")
	}
	c, err := hub.BatchConsumer(within(t), newBatches().handle, nil)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// Many publishers, batches with and without a delay: every event once, in order.
func TestBatchLosesNothing(t *testing.T) {
	const events = 1200
	hub := realHub(t, Config{})
	type seen struct {
		keys []int64
		done chan struct{}
	}
	var all []*seen
	for _, cfg := range []BatchConfig{{}, {Max: 7}, {Delay: time.Millisecond}, {Max: 100, Delay: time.Millisecond}} {
		s := &seen{done: make(chan struct{})}
		all = append(all, s)
		cfg.Topics = []string{"a"}
		_, err := hub.BatchConsumer(within(t), func(_ context.Context, events []*Event) {
			for _, ev := range events {
				if ev.Advisory == nil {
					s.keys = append(s.keys, ev.Key[0])
				} else if ev.Advisory.Final {
					close(s.done)
				}
			}
		}, &cfg)
		require.NoError(t, err)
	}
	startHub(t, hub)
	var group sync.WaitGroup
	for p := range 4 {
		group.Go(func() {
			for i := range events / 4 {
				if err := hub.Notify(context.Background(), "a", []int64{int64(4*i + p)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.NoError(t, hub.Stop(within(t)))
	for _, s := range all {
		<-s.done
		require.Len(t, s.keys, events)
		require.Equal(t, all[0].keys, s.keys)
		next := make([]int64, 4)
		for _, k := range s.keys {
			require.Equal(t, next[k%4], k/4)
			next[k%4]++
		}
	}
}

// What comes while the latest are looked for is for the next call: else the first would never come while publishers go on.
func TestBatchLatestEnds(t *testing.T) {
	const waiting, meanwhile = 50_000, 50_000
	q := newQueue(unboundedQueue, DropOldest, &brake{})
	q.put(0, queueRun("a", make([]int, waiting)...))
	first := q.next()
	var putter sync.WaitGroup
	putter.Go(func() {
		for q.delivered.Load() == 0 { // until it has begun
			runtime.Gosched()
		}
		for range meanwhile {
			q.put(0, queueRun("a", 1))
		}
	})
	b := &batching{most: 10, latest: true}
	require.Len(t, b.takeLatest(&q, first), 1)
	putter.Wait()
	q.done()
	require.EqualValues(t, waiting, q.delivered.Load())
}
