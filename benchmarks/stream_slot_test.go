package main

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
)

func tuple(columns ...string) *pglogrepl.TupleData {
	row := &pglogrepl.TupleData{}
	for _, c := range columns {
		row.Columns = append(row.Columns, &pglogrepl.TupleDataColumn{DataType: 't', Data: []byte(c)})
	}
	return row
}

func TestEventOfTuple(t *testing.T) {
	ev, err := eventOfTuple(tuple("12", "orders", "{7,-8}", `{"a":1}`, "", "2026-11-21 10:20:30.5+00"))
	require.NoError(t, err)
	require.Equal(t, "orders", ev.Topic)
	require.Equal(t, []int64{7, -8}, ev.Key)
	require.JSONEq(t, `{"a":1}`, string(ev.Value))
	require.EqualValues(t, 12, ev.Record.Position.ID)
	require.True(t, ev.Record.Time.Equal(time.Date(2026, 11, 21, 10, 20, 30, 500_000_000, time.UTC)), ev.Record.Time)

	ev, err = eventOfTuple(tuple("12", "orders", "{}", "1", "", "2026-11-21 10:20:30+00"))
	require.NoError(t, err)
	require.Empty(t, ev.Key)

	for _, row := range []*pglogrepl.TupleData{
		nil,
		tuple("12"),
		tuple("12", "orders", "{x}", "1", "", "2026-11-21 10:20:30+00"),
		tuple("x", "orders", "{1}", "1", "", "2026-11-21 10:20:30+00"),
		tuple("12", "orders", "{1}", "1", "", "today"),
	} {
		_, err := eventOfTuple(row)
		require.Error(t, err)
	}
}
