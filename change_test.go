package pghub_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

// What the triggers of package sql announce arrives as a Change, at every level.
func TestChange(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	ctx := t.Context()
	exec := func(statement string) {
		t.Helper()
		_, err := pool.Exec(ctx, statement)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE people (id bigint PRIMARY KEY, name text);
		CREATE TABLE places (code text PRIMARY KEY);
		CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b))`)
	require.NoError(t, sql.Install(ctx, pool))
	require.NoError(t, sql.Apply(ctx, pool,
		sql.Watch{Table: "people", Old: true, Changed: true},
		sql.Watch{Table: "people", Name: "any", Topic: "any", Level: sql.Change},
		sql.Watch{Table: "places", Level: sql.Statement},
		sql.Watch{Table: "pairs", Level: sql.Statement}))

	type arrived struct {
		topic  string
		key    []int64
		change pghub.Change
	}
	var got []arrived
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	_, err = hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			return
		}
		change, err := pghub.Decode[pghub.Change](ev)
		if err != nil {
			t.Errorf("%s: %v", ev.Payload, err)
		}
		got = append(got, arrived{ev.Topic, ev.Key, change})
	}, &pghub.ConsumerConfig{Topics: []string{"people", "any", "places", "pairs"}})
	require.NoError(t, err)
	require.NoError(t, hub.Start(ctx))

	exec(`INSERT INTO people VALUES (9223372036854775807, 'Ada')`)
	exec(`UPDATE people SET id = 7, name = 'Eve'`)
	exec(`INSERT INTO people VALUES (8, repeat('x', 9000))`)
	exec(`INSERT INTO places VALUES ('x'), ('y')`)
	exec(`INSERT INTO pairs VALUES (1, 2), (3, 4)`)
	exec(`TRUNCATE pairs`)
	require.NoError(t, hub.Stop(ctx)) // everything committed has been delivered

	var people, others []arrived
	anything := 0
	for _, a := range got {
		switch a.topic {
		case "people":
			people = append(people, a)
		case "any":
			anything++
			require.Contains(t, []pghub.Operation{pghub.Insert, pghub.Update}, a.change.Op, "level change writes it in capitals")
		default:
			others = append(others, a)
		}
	}
	require.Equal(t, 3, anything)

	require.Len(t, people, 3)
	insert, update, large := people[0], people[1], people[2]
	require.Equal(t, []int64{9223372036854775807}, insert.key)
	require.Equal(t, "insert public people", fmt.Sprint(insert.change.Op, " ", insert.change.Schema, " ", insert.change.Table))
	require.Equal(t, `{"id":9223372036854775807,"name":"Ada"}`, string(insert.change.Row))
	require.Equal(t, `{"id":9223372036854775807}`, string(update.change.OldID))
	require.Equal(t, `{"id":7}`, string(update.change.ID))
	require.Equal(t, `{"id":9223372036854775807,"name":"Ada"}`, string(update.change.Old))
	require.Equal(t, []string{"id", "name"}, update.change.Changed)
	require.Equal(t, [][]int64{{7}, {9223372036854775807}}, slices.Collect(update.change.Keys(update.key)), "a cache drops both")
	require.Equal(t, [][]int64{{9223372036854775807}}, slices.Collect(insert.change.Keys(insert.key)))
	type person struct {
		ID   int64
		Name string
	}
	row, err := pghub.Row[person](update.change)
	require.NoError(t, err)
	require.Equal(t, person{7, "Eve"}, row)
	row, err = pghub.OldRow[person](update.change)
	require.NoError(t, err)
	require.Equal(t, "Ada", row.Name)
	id, err := pghub.ID[struct{ ID int64 }](update.change)
	require.NoError(t, err)
	require.EqualValues(t, 7, id.ID)
	_, err = pghub.Row[person](large.change)
	require.ErrorIs(t, err, pghub.ErrNoRow)
	_, err = pghub.Row[struct{ Name int }](update.change)
	require.ErrorContains(t, err, "row of public.people")
	require.True(t, large.change.Truncated)
	require.Equal(t, []int64{8}, large.key)
	require.Nil(t, large.change.Row)

	require.Len(t, others, 3)
	places, pairs, truncate := others[0], others[1], others[2]
	require.Len(t, places.change.IDs, 2)
	require.Equal(t, `{"code":"y"}`, string(places.change.IDs[1]))
	require.EqualValues(t, 2, pairs.change.Count)
	var keys [][]int64
	for key := range pairs.change.Keys(pairs.key) {
		keys = append(keys, key)
	}
	require.Equal(t, [][]int64{{1, 2}, {3, 4}}, keys)
	require.Equal(t, pghub.Truncate, truncate.change.Op)
}

func TestKeysOfARowWithoutKey(t *testing.T) {
	for _, key := range [][]int64{nil, {}} {
		require.Empty(t, slices.Collect((&pghub.Change{Op: pghub.Insert}).Keys(key)), "there is nothing to drop")
		require.Equal(t, [][]int64{{7}}, slices.Collect((&pghub.Change{Op: pghub.Update, OldKey: []int64{7}}).Keys(key)))
	}
}
