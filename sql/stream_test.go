package sql

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// logged is an event of the stream, and where a page ends if it has no topic.
type logged struct {
	Tick, Txn, ID  int64
	Topic          *string
	Key            []int64
	Value, Headers *string
}

func (b *bench) page(tick, txn, id int64, topics []string) (events []logged, end logged) {
	b.t.Helper()
	rows, err := b.conn.Query(b.t.Context(), "SELECT tick, txn, id, topic, key, value, headers FROM pghub.page($1, $2, $3, $4)", tick, txn, id, topics)
	require.NoError(b.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[logged])
	require.NoError(b.t, err)
	last := len(list) - 1
	require.Nil(b.t, list[last].Topic)
	return list[:last], list[last]
}

const wholeTick = 9223372036854775807

func (b *bench) tick() (tick *int64) {
	b.t.Helper()
	return one[*int64](b, "SELECT tick FROM pghub.tick()")
}

func TestPublishedEventsAreReadInTheirOrder(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	b.do(`SELECT pghub.publish('a', 1, '{"x":1}')`)
	b.do(`SELECT pghub.publish('a', '{1,2}', NULL, '{"h":"v"}')`)
	b.do(`SELECT pghub.publish('b')`)
	events, end := b.page(start, wholeTick, wholeTick, nil)
	require.Empty(t, events, "without a tick nothing can be read")
	require.Equal(t, "end", *end.Value)
	require.NotNil(t, b.tick())
	require.Nil(t, b.tick(), "nothing is new")
	events, end = b.page(start, wholeTick, wholeTick, nil)
	require.Len(t, events, 3)
	require.Equal(t, "end", *end.Value)
	require.Equal(t, `{"x":1}`, *events[0].Value)
	require.Equal(t, []int64{1, 2}, events[1].Key)
	require.Equal(t, `{"h":"v"}`, *events[1].Headers)
	require.Equal(t, "b", *events[2].Topic)

	rest, _ := b.page(events[0].Tick, events[0].Txn, events[0].ID, nil)
	require.Equal(t, events[1:], rest)
	some, _ := b.page(start, wholeTick, wholeTick, []string{"b"})
	require.Equal(t, events[2:], some)
	none, end := b.page(end.Tick, end.Txn, end.ID, nil)
	require.Empty(t, none)
	require.Equal(t, "end", *end.Value)
}

func TestALargeTickIsReadByPages(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	b.do(`SELECT pghub.publish('a', i) FROM generate_series(1, 25000) AS i`)
	b.do(`SELECT pghub.publish('b', 0)`)
	require.NotNil(t, b.tick())
	b.do(`SELECT pghub.publish('a', 25001)`)
	require.NotNil(t, b.tick())
	for _, topics := range [][]string{nil, {"a"}} {
		next, pages := int64(1), 0
		at := logged{Tick: start, Txn: wholeTick, ID: wholeTick}
		for state := "more"; state == "more"; {
			var events []logged
			events, at = b.page(at.Tick, at.Txn, at.ID, topics)
			for _, ev := range events {
				if *ev.Topic == "a" {
					require.Equal(t, []int64{next}, ev.Key)
					next++
				}
			}
			state = *at.Value
			pages++
		}
		require.EqualValues(t, 25002, next)
		require.Less(t, pages, 8)
	}
}

// A durable watch writes the same events into the stream, whatever their size, and sends nothing.
func TestDurableWatch(t *testing.T) {
	b := setUp(t, "people")
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	b.do(`CREATE TABLE people (id int PRIMARY KEY, name text)`)
	require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: "people", Durable: true}))
	b.do(`INSERT INTO people VALUES (1, 'Ada')`)
	b.do(`UPDATE people SET name = repeat('x', 100000) WHERE id = 1`)
	b.do(`DELETE FROM people`)
	b.do(`TRUNCATE people`)
	require.Empty(t, b.heard())
	b.tick()
	events, _ := b.page(start, wholeTick, wholeTick, nil)
	require.Len(t, events, 4)
	for i, op := range []string{"insert", "update", "delete", "truncate"} {
		require.Equal(t, "people", *events[i].Topic)
		require.Contains(t, *events[i].Value, `{"op":"`+op+`","schema":"public","table":"people","seq":`)
		require.NotContains(t, *events[i].Value, "truncated")
	}
	require.Equal(t, []int64{1}, events[1].Key)
	require.Greater(t, len(*events[1].Value), 100000)

	// The same table may be announced too. Its events are the same.
	b.do(`SELECT pghub.watch('people', name => 'beside')`)
	b.do(`INSERT INTO people VALUES (2, 'Bob')`)
	b.tick()
	events, _ = b.page(events[3].Tick, events[3].Txn, events[3].ID, nil)
	require.Len(t, events, 1)
	require.Len(t, b.heard(), 1)

	require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: "people", Durable: true, Level: Statement}))
	b.do(`SELECT pghub.unwatch('people', 'beside')`)
	b.do(`INSERT INTO people SELECT i FROM generate_series(10, 3000) AS i`)
	require.Empty(t, b.heard())
	b.fails("0A000", "level change folds", `SELECT pghub.watch('people', level => 'change', durable => true)`)
}
