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
