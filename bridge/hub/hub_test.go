package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/hub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = time.Minute

// newTarget is a database with schema pghub.
func newTarget(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pgtest.CheckLeaks(t)
	dsn := pgtest.Database(t)
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, dsn)))
	return pgtest.Pool(t, dsn)
}

func newSink(t *testing.T, cfg hub.Config) *hub.Sink {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "shop"
	}
	s, err := hub.New(cfg)
	require.NoError(t, err)
	return s
}

// message is one of a stream, in its place.
func message(n int64, body string) *bridge.Message {
	at := pghub.Position{Tick: 1000, Txn: n, ID: n}
	return &bridge.Message{ID: at.String(), Position: at, Route: "r", Topic: "t", Key: []int64{n}, Body: []byte(body)}
}

func messages(from, to int64) (list []*bridge.Message) {
	for n := from; n <= to; n++ {
		list = append(list, message(n, fmt.Sprint(n)))
	}
	return list
}

// logged is what the target's stream has.
func logged(t *testing.T, pool *pgxpool.Pool) (words []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', topic, key, value, headers) FROM pghub.log ORDER BY id`)
	require.NoError(t, err)
	for rows.Next() {
		var word string
		require.NoError(t, rows.Scan(&word))
		words = append(words, word)
	}
	require.NoError(t, rows.Err())
	return words
}

// What comes again is there already: all of a batch, or its beginning.
func TestNothingComesTwice(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool, Stream: true})
	require.NoError(t, s.Send(t.Context(), messages(1, 3)))
	require.NoError(t, s.Send(t.Context(), messages(1, 3)))
	require.NoError(t, s.Send(t.Context(), messages(2, 5)))
	again := newSink(t, hub.Config{Pool: pool, Stream: true}) // another process
	require.NoError(t, again.Send(t.Context(), messages(1, 6)))
	require.Equal(t, []string{"t {1} 1", "t {2} 2", "t {3} 3", "t {4} 4", "t {5} 5", "t {6} 6"}, logged(t, pool))
}

// Positions are kept for each source and route.
func TestPositionsAreOfASourceAndARoute(t *testing.T) {
	pool := newTarget(t)
	require.NoError(t, newSink(t, hub.Config{Pool: pool, Stream: true}).Send(t.Context(), messages(1, 2)))
	require.NoError(t, newSink(t, hub.Config{Pool: pool, Stream: true, Name: "other"}).Send(t.Context(), messages(1, 1)))
	m := messages(1, 1)
	m[0].Route = "another"
	require.NoError(t, newSink(t, hub.Config{Pool: pool, Stream: true}).Send(t.Context(), m))
	require.Len(t, logged(t, pool), 4)
}

// A message that is tried once more out of order is published, and moves no position.
func TestWhatComesAgainOutOfOrderIsPublished(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool, Stream: true})
	require.NoError(t, s.Send(t.Context(), messages(1, 3)))
	again := message(2, "2")
	again.Again = true
	require.NoError(t, s.Send(t.Context(), []*bridge.Message{again}))
	require.NoError(t, s.Send(t.Context(), messages(3, 4)))
	require.Equal(t, []string{"t {1} 1", "t {2} 2", "t {3} 3", "t {2} 2", "t {4} 4"}, logged(t, pool))
}

// Two bridges that believe themselves alone publish each message once.
func TestTwoAtOnce(t *testing.T) {
	pool := newTarget(t)
	var all sync.WaitGroup
	for range 2 {
		s := newSink(t, hub.Config{Pool: pool, Stream: true})
		all.Go(func() {
			for n := int64(1); n <= 50; n += 5 {
				if err := s.Send(context.Background(), messages(n, n+4)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := logged(t, pool)
	require.Len(t, got, 50)
	for i, word := range got {
		require.Equal(t, fmt.Sprintf("t {%d} %d", i+1, i+1), word)
	}
}

// Topic, key, value and headers arrive as they were; what cannot be published is refused, and holds up nothing.
func TestWhatIsPublished(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool, Stream: true})
	list := messages(1, 5)
	list[0].Target, list[0].Headers, list[0].Attributes = "target", map[string]string{"a": "b"}, map[string]string{"id": "7"}
	list[0].Key = []int64{-9223372036854775808, 9223372036854775807}
	list[1].Body, list[1].Key = nil, nil
	list[2].Body = []byte("no JSON")
	list[3].Topic = strings.Repeat("x", 64)
	list[4].Body = []byte(`{"é":"\u0000","b":1.0}`)
	var each bridge.Errors
	require.ErrorAs(t, s.Send(t.Context(), list), &each)
	require.Equal(t, []bool{false, false, true, true, false}, []bool{
		each[0] != nil, each[1] != nil, bridge.IsRefused(each[2]), bridge.IsRefused(each[3]), each[4] != nil,
	})
	require.ErrorIs(t, each[2], pghub.ErrValue)
	require.ErrorIs(t, each[3], pghub.ErrTopic)
	require.Equal(t, []string{
		`target {-9223372036854775808,9223372036854775807} 1 {"a":"b","ce-id":"7"}`, `t`, `t {5} {"é":"\u0000","b":1.0}`,
	}, logged(t, pool))
}

// What the server refuses is found in a smaller batch, and refused alone.
func TestWhatTheServerRefuses(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool, Stream: true})
	_, err := pool.Exec(t.Context(), `ALTER TABLE pghub.log ADD CHECK (octet_length(value) < 10 OR value::int / 0 = 1)`)
	require.NoError(t, err)
	list := messages(1, 2)
	list[1].Body = []byte("12345678901")
	var each bridge.Errors
	require.ErrorAs(t, s.Send(t.Context(), list), &each)
	for _, err := range each {
		require.Error(t, err)
		require.False(t, bridge.IsRefused(err), "it is not known which one it is")
	}
	require.NoError(t, s.Send(t.Context(), list[:1]))
	require.ErrorAs(t, s.Send(t.Context(), list[1:]), &each)
	require.True(t, bridge.IsRefused(each[0]))
}

// listener gathers what a hub of the target hears.
func listener(t *testing.T, pool *pgxpool.Pool, codec pghub.Codec) <-chan string {
	t.Helper()
	h, err := pghub.New(pghub.Config{Pool: pool, Codec: codec})
	require.NoError(t, err)
	heard := make(chan string, 1000)
	_, err = h.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			heard <- fmt.Sprint(ev.Topic, ev.Key, string(ev.Value), "|", strings.TrimRight(string(ev.Payload), " "))
		}
	}, &pghub.ConsumerConfig{Topics: []string{"t"}})
	require.NoError(t, err)
	require.NoError(t, h.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, h.Stop(ctx))
	})
	return heard
}

func hear(t *testing.T, heard <-chan string) string {
	t.Helper()
	select {
	case word := <-heard:
		return word
	case <-time.After(patience):
		require.Fail(t, "waited in vain")
		return ""
	}
}

// Notifications of one transaction are folded by PostgreSQL if they are equal: ours are not.
func TestEqualNotificationsAllArrive(t *testing.T) {
	pool := newTarget(t)
	heard := listener(t, pool, nil)
	s := newSink(t, hub.Config{Pool: pool})
	var list []*bridge.Message
	for n, body := range []string{"1", "1", "1 ", "", "", "", "null"} {
		m := message(int64(n+1), body)
		m.Key = []int64{7}
		list = append(list, m)
	}
	require.NoError(t, s.Send(t.Context(), list))
	for range 3 {
		require.Contains(t, hear(t, heard), "t[7]1|")
	}
	for range 4 {
		require.Contains(t, hear(t, heard), "t[7]|")
	}
	require.NoError(t, s.Send(t.Context(), list))
	require.NoError(t, s.Send(t.Context(), []*bridge.Message{message(8, "8")}))
	require.Equal(t, "t[8]8|e8:8", hear(t, heard), "nothing came twice")
}

// Raw text goes as it is. Equal texts take a transaction each.
func TestRaw(t *testing.T) {
	pool := newTarget(t)
	heard := listener(t, pool, pghub.RawCodec{})
	s := newSink(t, hub.Config{Pool: pool, Raw: true})
	list := []*bridge.Message{message(1, "a b"), message(2, "a b"), message(3, "c")}
	var each bridge.Errors
	require.ErrorAs(t, s.Send(t.Context(), list), &each)
	require.NoError(t, each[0])
	require.ErrorIs(t, each[1], bridge.ErrNotSent)
	require.ErrorIs(t, each[2], bridge.ErrNotSent)
	require.NoError(t, s.Send(t.Context(), list[1:]))
	require.Equal(t, []string{"t[]|a b", "t[]|a b", "t[]|c"}, []string{hear(t, heard), hear(t, heard), hear(t, heard)})
}

// What is too large for a notification is refused for good.
func TestWhatIsTooLargeIsRefused(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool})
	var each bridge.Errors
	require.ErrorAs(t, s.Send(t.Context(), []*bridge.Message{message(1, `"`+strings.Repeat("x", 8000)+`"`), message(2, "2")}), &each)
	require.True(t, bridge.IsRefused(each[0]))
	require.ErrorIs(t, each[0], pghub.ErrPayloadTooLarge)
	require.NoError(t, each[1])
}

// Check says what is missing.
func TestCheck(t *testing.T) {
	pool := newTarget(t)
	s := newSink(t, hub.Config{Pool: pool, Stream: true, Table: "public.positions"})
	require.ErrorContains(t, s.Check(t.Context(), nil), "positions")
	require.NoError(t, hub.Setup(t.Context(), pool, "public.positions"))
	require.NoError(t, hub.Setup(t.Context(), pool, "public.positions"))
	require.NoError(t, s.Check(t.Context(), nil))
	require.NoError(t, s.Send(t.Context(), messages(1, 1)))
	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, s.Send(t.Context(), messages(2, 2)), bridge.ErrClosed)
}

// Whoever comes first makes the table, however many there are.
func TestSetupByManyAtOnce(t *testing.T) {
	pool := newTarget(t)
	var all sync.WaitGroup
	for i := range 8 {
		s := newSink(t, hub.Config{Pool: pool, Stream: true, Name: fmt.Sprint(i)})
		all.Go(func() {
			if err := s.Send(context.Background(), messages(1, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Len(t, logged(t, pool), 8)
}

// Wrong configurations are named.
func TestWrongConfigurations(t *testing.T) {
	pool := newTarget(t)
	for want, cfg := range map[string]hub.Config{
		"Pool": {Name: "x"}, "Name": {Pool: pool}, "Raw": {Pool: pool, Name: "x", Raw: true, Stream: true},
	} {
		_, err := hub.New(cfg)
		require.ErrorContains(t, err, want)
	}
}
