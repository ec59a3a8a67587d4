package stream_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(workerEnv); dsn != "" {
		work(dsn)
		return
	}
	pgtest.Main(m)
}

// patience is how long a test waits for what should come soon.
const patience = time.Minute

// lab is a database with a stream, and a hub on it that has been started.
type lab struct {
	t    *testing.T
	dsn  string
	pool *pgxpool.Pool
	hub  *pghub.Hub
	s    *stream.Stream
}

// newLab makes a lab. Its lease is short, so that what waits for one does not take long.
func newLab(t *testing.T, cfg stream.Config) *lab {
	t.Helper()
	pgtest.CheckLeaks(t)
	l := &lab{t: t, dsn: pgtest.Database(t)}
	conn := pgtest.Conn(t, l.dsn)
	require.NoError(t, sql.Install(t.Context(), conn))
	l.join(cfg)
	return l
}

// join opens the stream as one more process would.
func (l *lab) join(cfg stream.Config) {
	l.t.Helper()
	l.pool, l.hub, l.s = process(l.t, l.dsn, cfg)
}

// process is a pool, a hub and a stream of their own on a database.
func process(t *testing.T, dsn string, cfg stream.Config) (*pgxpool.Pool, *pghub.Hub, *stream.Stream) {
	t.Helper()
	pool := pgtest.Pool(t, dsn)
	hub, s := processOn(t, pool, cfg)
	return pool, hub, s
}

func processOn(t *testing.T, pool *pgxpool.Pool, cfg stream.Config) (*pghub.Hub, *stream.Stream) {
	t.Helper()
	if cfg.Lease == 0 {
		cfg.Lease = 10 * time.Second // a machine that stands still for a second loses none
	}
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMax: 100 * time.Millisecond, OnError: func(err error) { t.Log(err) }})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, hub.Stop(ctx))
	})
	s, err := stream.Open(t.Context(), hub, cfg)
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	return hub, s
}

func (l *lab) do(sql string, args ...any) {
	l.t.Helper()
	_, err := l.pool.Exec(l.t.Context(), sql, args...)
	require.NoError(l.t, err, sql)
}

// one returns what a query of one row and one column gives.
func one[T any](l *lab, sql string, args ...any) (v T) {
	l.t.Helper()
	require.NoError(l.t, l.pool.QueryRow(l.t.Context(), sql, args...).Scan(&v), sql)
	return v
}

// follow reads on until ctx ends, and calls handle with each event. It gives the error that it ends with.
func (l *lab) follow(ctx context.Context, handle func(*pghub.Event)) (ended <-chan error) {
	failed := make(chan error, 1)
	go func() {
		for ev, err := range l.s.Follow(ctx, stream.Earliest) {
			if err != nil {
				failed <- err
				return
			}
			handle(ev)
		}
	}()
	return failed
}

// resyncs makes a live consumer of a topic, and gives the error of each gap that its Resync is told of.
func (l *lab) resyncs(topic string) <-chan error {
	told := make(chan error, 100)
	_, err := l.hub.Consumer(l.t.Context(), func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{
		Topics: []string{topic}, Resync: func(_ context.Context, gap pghub.Gap) error {
			told <- gap.Err
			return nil
		},
	})
	require.NoError(l.t, err)
	return told
}

func (l *lab) publish(topic string, numbers ...int) {
	l.t.Helper()
	for _, n := range numbers {
		require.NoError(l.t, l.s.Publish(l.t.Context(), topic, []int64{int64(n)}, n))
	}
}

// seen is what a handler has seen: events in words, topic and value.
type seen struct {
	mu    sync.Mutex
	words []string
	more  chan struct{}
}

func newSeen() *seen { return &seen{more: make(chan struct{}, 1)} }

func word(ev *pghub.Event) string { return fmt.Sprint(ev.Topic, " ", string(ev.Value)) }

func (s *seen) add(ev *pghub.Event) {
	s.mu.Lock()
	s.words = append(s.words, word(ev))
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.words...)
}

// await waits for exactly these words.
func (s *seen) await(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(patience)
	for len(s.all()) < len(words) {
		select {
		case <-s.more:
		case <-late:
			require.Equal(t, words, s.all(), "waited in vain")
		}
	}
	require.Equal(t, words, s.all())
}

func (s *seen) handle(_ context.Context, ev *pghub.Event) error {
	s.add(ev)
	return nil
}

func numbers(topic string, from, to int) (words []string) {
	for n := from; n <= to; n++ {
		words = append(words, fmt.Sprint(topic, " ", n))
	}
	return words
}

func upTo(n int) (list []int) {
	for i := 1; i <= n; i++ {
		list = append(list, i)
	}
	return list
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, patience, 2*time.Millisecond, what)
}
