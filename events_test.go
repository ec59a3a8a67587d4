package pghub

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

// requireNoConsumer requires that a loop has left nothing behind.
func requireNoConsumer(t *testing.T, hub *Hub) {
	t.Helper()
	require.Zero(t, hub.Stats().Consumers)
	require.Zero(t, hub.Stats().Topics)
}

func TestEventsOfALoop(t *testing.T) {
	const events = 1000
	hub := realHub(t, Config{Pool: pgtest.Pool(t, pgtest.Database(t))})
	startHub(t, hub)
	var lines []string
	for ev := range hub.Events(within(t), "a") {
		lines = append(lines, lineOf(ev))
		if len(lines) == 1 {
			require.Equal(t, lineSubscribe("a"), lines[0])
			for i := range events {
				require.NoError(t, hub.Notify(within(t), "a", []int64{int64(i)}, nil))
			}
			continue
		}
		require.Equal(t, fmt.Sprint("a e", len(lines)-2), lineOf(ev))
		if len(lines) > events {
			break
		}
	}
	requireNoConsumer(t, hub)
	require.EqualValues(t, events+1, hub.Stats().Delivered)
}

func TestALoopThatIsLeft(t *testing.T) {
	for name, leave := range map[string]func(seq iter.Seq[*Event]){
		"break": func(seq iter.Seq[*Event]) {
			for range seq {
				break
			}
		},
		"panic": func(seq iter.Seq[*Event]) {
			defer func() { _ = recover() }()
			for range seq {
				panic("no good")
			}
		},
		"runtime.Goexit": func(seq iter.Seq[*Event]) {
			var done sync.WaitGroup
			done.Go(func() {
				for range seq {
					runtime.Goexit()
				}
			})
			done.Wait()
		},
		"iter.Pull": func(seq iter.Seq[*Event]) {
			next, stop := iter.Pull(seq)
			next()
			stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				startHub(t, hub)
				leave(hub.Events(context.Background(), "a", "b"))
				requireNoConsumer(t, hub)
				synctest.Wait()
				require.Empty(t, server.Listening())
				require.NoError(t, hub.Stop(within(t)))
			})
		})
	}
}

// in runs a loop in the background and returns what it sees, and where it will be when it has ended.
func inLoop(ctx context.Context, hub *Hub, topics ...string) (*witness, <-chan error) {
	w := newWitness()
	return w, background(func() error {
		for ev := range hub.Events(ctx, topics...) {
			w.handle(ctx, ev)
		}
		return nil
	})
}

func TestALoopEndsWithItsContext(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		ctx, cancel := context.WithCancel(context.Background())
		w, ended := inLoop(ctx, hub, "a")
		w.expect(t, lineSubscribe("a"))
		server.Notify("a", "e")
		w.expect(t, "a e")
		time.Sleep(time.Hour)
		cancel()
		require.NoError(t, outcome(t, ended))
		w.expect(t, lineClose)
		require.Empty(t, w.rest())
		requireNoConsumer(t, hub)
	})
}

// What is queued when the context ends is discarded, even if it was fetched together with the event that the body has.
func TestALoopThatIsBusyWhenItsContextEnds(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w := newWitness()
		for ev := range hub.Events(ctx, "a") {
			if w.handle(ctx, ev); ev.Topic == "a" {
				synctest.Wait()
				cancel()
				synctest.Wait()
				continue
			}
			burst, err := (&pgproto3.NotificationResponse{Channel: "a", Payload: "e"}).Encode(nil)
			require.NoError(t, err)
			server.SendRaw(bytes.Repeat(burst, 100))
		}
		require.Equal(t, []string{lineSubscribe("a"), "a e", lineClose}, w.lines())
	})
}

func TestALoopEndsWithTheHub(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, ended := inLoop(context.Background(), hub, "a") // begins to wait before Start
		synctest.Wait()
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Kill()
		w.expect(t, lineDisconnect, lineReconnect)
		server.Notify("a", "e")
		synctest.Wait()
		require.NoError(t, hub.Stop(within(t)))
		require.NoError(t, outcome(t, ended))
		require.Equal(t, []string{"a e", lineStop}, w.rest())
		requireNoConsumer(t, hub)
	})
}

// What arrives while the body is busy waits, and is delivered before stop.
func TestABusyLoop(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{QueueSize: 10})
		startHub(t, hub)
		w := newWitness()
		ended := background(func() error {
			for ev := range hub.Events(context.Background(), "a") {
				time.Sleep(time.Minute)
				w.handle(context.Background(), ev)
			}
			return nil
		})
		synctest.Wait()
		for i := range 15 {
			server.Notify("a", fmt.Sprint("e", i))
		}
		synctest.Wait()
		require.NoError(t, hub.Stop(context.Background()))
		require.NoError(t, outcome(t, ended))
		w.expect(t, lineSubscribe("a"), lineLag(5))
		for i := range 10 {
			w.expect(t, fmt.Sprint("a e", i+5))
		}
		w.expect(t, lineStop)
	})
}

func TestABlockedLoopMakesStopWait(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		open := make(chan struct{})
		ended := background(func() error {
			for range hub.Events(context.Background(), "a") {
				<-open
			}
			return nil
		})
		synctest.Wait()
		require.ErrorIs(t, hub.Stop(soon(t)), context.DeadlineExceeded)
		close(open)
		require.NoError(t, outcome(t, ended))
		require.NoError(t, hub.Stop(within(t)))
	})
}

// A loop whose topics cannot be subscribed to sees why, and nothing else; the hub forgets it.
func TestALoopThatNeverBegins(t *testing.T) {
	past, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		trouble func(t *testing.T, server *fakepg.Server, hub *Hub)
		ctx     func(t *testing.T) context.Context
		topic   string
		want    error
	}{
		"an invalid topic": {nil, nil, "", ErrTopic},
		"a context that has ended": {
			func(t *testing.T, _ *fakepg.Server, hub *Hub) { startHub(t, hub) },
			func(*testing.T) context.Context { return past }, "a", context.Canceled,
		},
		"a context that has ended before Start": {nil, func(*testing.T) context.Context { return past }, "a", context.Canceled},
		"an outage that outlasts its context": {
			func(t *testing.T, server *fakepg.Server, hub *Hub) {
				startHub(t, hub)
				server.RefuseDials(errRefusedByTest)
				server.Kill()
				synctest.Wait()
			}, soon, "a", context.DeadlineExceeded,
		},
		"a stopped hub": {
			func(t *testing.T, _ *fakepg.Server, hub *Hub) { require.NoError(t, hub.Stop(within(t))) }, nil, "a", ErrStopped,
		},
		"a refused topic": {
			func(t *testing.T, server *fakepg.Server, hub *Hub) {
				startHub(t, hub)
				server.RefuseQuery(refuseListen("bad"))
			}, nil, "bad", new(ListenError),
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				if test.trouble != nil {
					test.trouble(t, server, hub)
				}
				ctx := context.Background()
				if test.ctx != nil {
					ctx = test.ctx(t)
				}
				var seen []*Event
				for ev := range hub.Events(ctx, test.topic) {
					seen = append(seen, ev)
				}
				require.Equal(t, []string{lineClose}, linesOf(seen))
				if _, refused := test.want.(*ListenError); refused {
					require.ErrorAs(t, seen[0].Advisory.Err, new(*ListenError))
				} else {
					require.ErrorIs(t, seen[0].Advisory.Err, test.want)
				}
				requireNoConsumer(t, hub)
				require.NoError(t, hub.Stop(within(t)))
			})
		})
	}
}

func TestLoopsOverTheSameEvents(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		startHub(t, hub)
		seq := hub.Events(context.Background(), "a")
		var witnesses []*witness
		for range 3 {
			w := newWitness()
			witnesses = append(witnesses, w)
			go func() {
				for ev := range seq {
					w.handle(context.Background(), ev)
				}
			}()
		}
		synctest.Wait()
		server.Notify("a", "e")
		for _, w := range witnesses {
			w.expect(t, lineSubscribe("a"), "a e")
		}
		require.NoError(t, hub.Stop(within(t)))
		for _, w := range witnesses {
			w.expect(t, lineStop)
		}
	})
}

func TestEventsWithoutTopics(t *testing.T) {
	hub := unitHub(t, Config{})
	var got []*Event
	for ev := range hub.Events(t.Context()) {
		got = append(got, ev)
	}
	require.Len(t, got, 1)
	require.True(t, got[0].Advisory.Final)
	require.ErrorIs(t, got[0].Advisory.Err, ErrTopic)
	require.Empty(t, hub.ConsumerStats())
}
