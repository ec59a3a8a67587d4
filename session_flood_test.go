package pghub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// flood is a consumer's handler, and a connection that publishes numbered events as fast as that receives them.
type flood struct {
	topic, padding string
	ahead          chan struct{} // a token for each event that may be under way: the server answers nobody it has much to tell
	received       atomic.Int64
	misplaced      atomic.Int64
}

func newFlood(topic, padding string) *flood {
	f := &flood{topic: topic, padding: padding, ahead: make(chan struct{}, 1000)}
	for range cap(f.ahead) {
		f.ahead <- struct{}{}
	}
	return f
}

func (f *flood) handle(_ context.Context, ev *Event) {
	if ev.Advisory != nil {
		return
	}
	if f.received.Add(1)-1 != ev.Key[0] {
		f.misplaced.Add(1)
	}
	f.ahead <- struct{}{}
}

// start publishes until the test calls stop.
func (f *flood) start(t *testing.T, dsn string) (stop func() (sent int)) {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	ctx, cancel := context.WithCancel(context.Background())
	sent := 0
	done := background(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-f.ahead:
			}
			if _, err := conn.Exec(context.Background(), `SELECT pg_notify($1, $2)`, f.topic, fmt.Sprintf("e%d%s", sent, f.padding)); err != nil {
				return err
			}
			sent++
		}
	})
	stop = sync.OnceValue(func() int {
		cancel()
		require.NoError(t, outcome(t, done))
		return sent
	})
	t.Cleanup(func() { stop() })
	return stop
}

// requireAll requires that everything sent has been received, in order.
func (f *flood) requireAll(t *testing.T, sent int) {
	t.Helper()
	require.EqualValues(t, sent, f.received.Load())
	require.Zero(t, f.misplaced.Load())
}

// Subscribe has returned: what anybody commits after that moment arrives.
func TestSubscribeIsInEffectWhenItReturns(t *testing.T) {
	const topics = 300
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	load := newFlood("load", "")
	_, err := hub.Consumer(context.Background(), load.handle, &ConsumerConfig{Topics: []string{"load"}})
	require.NoError(t, err)
	startHub(t, hub)
	stop := load.start(t, dsn)
	other := pgtest.Conn(t, dsn)
	w, c := watch(t, hub)
	for i := range topics {
		topic := fmt.Sprint("t", i)
		require.NoError(t, c.Subscribe(within(t), topic))
		_, err := other.Exec(within(t), `NOTIFY `+topic+`, 'e'`)
		require.NoError(t, err)
	}
	for i := range topics {
		topic := fmt.Sprint("t", i)
		w.expect(t, lineSubscribe(topic), topic+" e")
	}
	sent := stop()
	require.NoError(t, hub.Stop(within(t)))
	load.requireAll(t, sent)
}

// A socket that always has something to read keeps nobody from being subscribed.
func TestSubscribeUnderSaturation(t *testing.T) {
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	padding := ":" + strings.Repeat(" ", 7900) + "0"
	floods := []*flood{newFlood("flood0", padding), newFlood("flood1", padding)}
	for _, f := range floods {
		_, err := hub.Consumer(context.Background(), f.handle, &ConsumerConfig{Topics: []string{f.topic}})
		require.NoError(t, err)
	}
	startHub(t, hub)
	stops := []func() int{floods[0].start(t, dsn), floods[1].start(t, dsn)}
	_, c := watch(t, hub)
	for i := range 50 {
		topic := fmt.Sprint("t", i)
		require.NoError(t, c.Subscribe(within(t), topic))
		require.NoError(t, hub.Notify(within(t), topic, nil, nil))
		require.NoError(t, c.Unsubscribe(within(t), topic))
	}
	sent := []int{stops[0](), stops[1]()}
	require.NoError(t, hub.Stop(within(t)))
	for i, f := range floods {
		f.requireAll(t, sent[i])
	}
	require.Zero(t, hub.Stats().Reconnects)
}

// What was committed before Stop was called is delivered before stop, whoever committed it.
func TestStopReceivesWhatWasCommitted(t *testing.T) {
	const events = 1000
	dsn := pgtest.Database(t)
	other := pgtest.Conn(t, dsn)
	for range 5 {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		_, err := other.Exec(within(t), `SELECT pg_notify('a', 'e' || n) FROM generate_series(0, $1 - 1) n`, events)
		require.NoError(t, err)
		require.NoError(t, hub.Stop(within(t)))
		w.requireNumbers(t, "a", events)
		lines := w.lines()
		require.Equal(t, lineStop, lines[len(lines)-1])
	}
}

// A database that is not in UTF-8 has no word for some topics.
func TestATopicThatTheDatabaseCannotName(t *testing.T) {
	dsn := pgtest.Latin1Database(t)
	t.Run("at Start", func(t *testing.T) {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, _ := watch(t, hub, "é", "日本")
		err := hub.Start(within(t))
		requireRefused(t, err, "日本")
		require.Equal(t, []string{lineStop}, w.lines())
		require.ErrorIs(t, w.take(t).Advisory.Err, err.(interface{ Unwrap() error }).Unwrap())
	})
	t.Run("at Subscribe", func(t *testing.T) {
		hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
		w, c := watch(t, hub, "é")
		startHub(t, hub)
		requireRefused(t, c.Subscribe(within(t), "a", "日本"), "日本")
		require.Equal(t, []string{"é"}, c.Topics())
		require.NoError(t, hub.Notify(within(t), "é", nil, "ü"))
		w.await(t, `é e:"ü"`)
		_, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{"日本"}})
		requireRefused(t, err, "日本")
		require.Zero(t, hub.Stats().Reconnects)
	})
}

func requireRefused(t *testing.T, err error, topic string) {
	t.Helper()
	var refused *ListenError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, topic, refused.Topic)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Contains(t, []string{"22P05", "22021"}, pgErr.Code)
	require.True(t, errors.Is(err, pgErr))
}
