package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		child(dsn)
		return
	}
	pgtest.Main(m)
}

// patience is how long a test waits for what should come soon.
const patience = time.Minute

// broker is a sink in memory. answer, if set, says what becomes of a batch before it is taken.
type broker struct {
	mu     sync.Mutex
	taken  []*bridge.Message
	calls  int
	closed int
	more   chan struct{}
	answer func(ctx context.Context, call int, batch []*bridge.Message) error
	gaps   bool
}

func newBroker() *broker { return &broker{more: make(chan struct{}, 1)} }

func (b *broker) Send(ctx context.Context, batch []*bridge.Message) error {
	b.mu.Lock()
	b.calls++
	call, answer := b.calls, b.answer
	b.mu.Unlock()
	var err error
	if answer != nil {
		err = answer(ctx, call, batch)
	}
	var each bridge.Errors
	if err != nil && !errors.As(err, &each) {
		return err
	}
	b.mu.Lock()
	for i, m := range batch {
		if each == nil || each[i] == nil {
			b.taken = append(b.taken, m)
		}
	}
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return err
}

func (b *broker) Close(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (b *broker) TakesGaps() bool { return b.gaps }

func (b *broker) all() []*bridge.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*bridge.Message(nil), b.taken...)
}

func bodies(list []*bridge.Message) (words []string) {
	for _, m := range list {
		words = append(words, string(m.Body))
	}
	return words
}

// await waits for exactly these bodies.
func (b *broker) await(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(patience)
	for len(b.all()) < len(words) {
		select {
		case <-b.more:
		case <-late:
			require.Equal(t, words, bodies(b.all()), "waited in vain")
		}
	}
	require.Equal(t, words, bodies(b.all()))
}

// script is a source that delivers what a test hands it.
type script struct {
	deliveries chan []bridge.Item
	answers    chan answer
	parks      bool
}

type answer struct {
	refused []bridge.Refused
	err     error
}

func newScript() *script {
	return &script{deliveries: make(chan []bridge.Item), answers: make(chan answer, 1000)}
}

func (s *script) Parks() bool { return s.parks }

func (s *script) Run(ctx context.Context, _ bridge.Want, deliver bridge.Deliver, ready func()) error {
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case items := <-s.deliveries:
			s.hand(context.WithoutCancel(ctx), items, deliver)
		}
	}
}

func (s *script) hand(ctx context.Context, items []bridge.Item, deliver bridge.Deliver) {
	a := answer{err: errors.New("it panicked")}
	defer func() { s.answers <- a }()
	a.refused, a.err = deliver(ctx, items)
}

// event is an event of a stream.
func event(n int64) bridge.Item {
	value := fmt.Sprint(n)
	return bridge.Item{Event: &pghub.Event{
		Topic: "t", Key: []int64{n}, Value: []byte(value), Payload: []byte("e" + value + ":" + value),
		Record: &pghub.Record{Position: pghub.Position{Tick: 1000 + n, Txn: 7 * n, ID: 7 * n}, Time: time.Unix(1700000000+n, 0)},
	}}
}

func events(from, to int64) (items []bridge.Item) {
	for n := from; n <= to; n++ {
		items = append(items, event(n))
	}
	return items
}

func words(from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprint(n))
	}
	return list
}

// troubles gathers what OnError is told.
type troubles struct {
	mu   sync.Mutex
	list []string
}

func (tr *troubles) add(err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.list = append(tr.list, err.Error())
}

func (tr *troubles) has(text string) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return strings.Contains(strings.Join(tr.list, "\n"), text)
}

// start starts a bridge, which the end of the test stops.
func start(t *testing.T, cfg bridge.Config) *bridge.Bridge {
	t.Helper()
	b, err := bridge.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, b) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, b.Start(ctx))
	return b
}

func stop(t *testing.T, b *bridge.Bridge) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, b.Stop(ctx))
}

// lab is a database with schema pghub, and a hub with a stream on it.
type lab struct {
	t    *testing.T
	dsn  string
	pool *pgxpool.Pool
	hub  *pghub.Hub
	s    *stream.Stream
}

func newLab(t *testing.T) *lab {
	t.Helper()
	pgtest.CheckLeaks(t)
	l := &lab{t: t, dsn: pgtest.Database(t)}
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, l.dsn)))
	l.pool = pgtest.Pool(t, l.dsn)
	var err error
	l.hub, err = pghub.New(pghub.Config{Pool: l.pool, ReconnectMin: time.Millisecond, ReconnectMax: 100 * time.Millisecond, OnError: func(err error) { t.Log(err) }})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, l.hub.Stop(ctx))
	})
	l.s, err = stream.Open(t.Context(), l.hub, stream.Config{})
	require.NoError(t, err)
	require.NoError(t, l.hub.Start(t.Context()))
	return l
}

// publish writes events to the stream, and has them be readable together; key and value are the number.
func (l *lab) publish(topic string, from, to int) {
	l.t.Helper()
	for n := from; n <= to; n++ {
		require.NoError(l.t, l.s.Publish(l.t.Context(), topic, []int64{int64(n)}, n))
	}
	_, err := l.s.Locate(l.t.Context(), stream.Latest)
	require.NoError(l.t, err)
}

func one[T any](l *lab, sql string, args ...any) (v T) {
	l.t.Helper()
	require.NoError(l.t, l.pool.QueryRow(l.t.Context(), sql, args...).Scan(&v), sql)
	return v
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, patience, 2*time.Millisecond, what)
}
