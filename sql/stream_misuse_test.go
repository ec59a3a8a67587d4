package sql

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever may publish may write events, and nothing that a reader could not read.
func TestOnlyEventsGetIntoTheStream(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	const all = `SELECT pghub.capture_all($1::text[], $2::text[], $3::text[], $4::text[])`
	none := []*string{nil}
	for _, topic := range []string{"", "a23456789012345678901234567890123456789012345678901234567890123x"} {
		b.fails("22023", "a topic has 1 to 63", all, []string{topic}, []string{"{1}"}, none, none)
		b.fails("22023", "a topic has 1 to 63", `SELECT pghub.capture($1, '{1}', '1', NULL)`, topic)
	}
	b.fails("22023", "topic NULL has 0 bytes", all, none, []string{"{1}"}, none, none)
	for _, key := range []string{"{NULL}", "{1,NULL}", "{{1},{2}}"} {
		b.fails("22023", "a key is a list of integers, without NULL", all, []string{"a", "a"}, []string{"{1}", key}, []string{"1", "1"}, []*string{nil, nil})
		b.fails("22023", "a key is a list of integers, without NULL", `SELECT pghub.capture('a', $1::text::bigint[], '1', NULL)`, key)
	}
	for _, text := range []string{"", "x", "{", `{"a":1} 2`} {
		const code, message = "22P02", "invalid input syntax for type json"
		b.fails(code, message, all, []string{"a"}, []string{"{1}"}, []string{text}, none)
		b.fails(code, message, all, []string{"a"}, []string{"{1}"}, none, []string{text})
		b.fails(code, message, `SELECT pghub.capture('a', '{1}', $1, NULL)`, text)
		b.fails(code, message, `SELECT pghub.capture('a', '{1}', NULL, $1)`, text)
		b.fails(code, message, `SELECT pghub.publish('a', 1, $1::text)`, text)
		b.fails(code, message, `SELECT pghub.publish('a', '1', $1::text)`, text)
	}
	b.fails("22023", "topic NULL", all, []string{"a"}, []string{"{1}"}, []string{"1", "2"}, none)

	// What is right is written as it is.
	value := ` { "b" : "\u0000\ud800", "a":1 ,"a": 1.0}`
	b.do(all, []string{"a", "a"}, []string{"{1,2}", "{}"}, []*string{&value, nil}, []*string{nil, &value})
	b.do(`SELECT pghub.publish('a', 3, $1::text)`, value)
	b.tick()
	events, _ := b.page(start, wholeTick, wholeTick, nil)
	require.Len(t, events, 3)
	require.Equal(t, []int64{1, 2}, events[0].Key)
	require.Equal(t, value, *events[0].Value)
	require.Nil(t, events[1].Key, "as pghub.publish writes it")
	require.Equal(t, value, *events[1].Headers)
	require.Equal(t, value, *events[2].Value)
}
