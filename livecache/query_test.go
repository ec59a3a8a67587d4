package livecache

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Values of one column, and of several; keys of any type; what does not exist is left out, and an error is one.
func TestQuery(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	_, err := pool.Exec(pgtest.Within(t), `CREATE TABLE people (id bigint, name text, tags text[]);
		INSERT INTO people VALUES (1, 'Ada', '{a}'), (2, 'Bob', '{b,c}'), (3, NULL, NULL)`)
	require.NoError(t, err)

	names, err := Query[int64, string](pool, `SELECT id, name FROM people WHERE id = ANY($1)`)(pgtest.Within(t), []int64{1, 2, 9})
	require.NoError(t, err)
	require.Equal(t, map[int64]string{1: "Ada", 2: "Bob"}, names)

	type person struct {
		Name string
		Tags []string
	}
	byName := Query[string, person](pool, `SELECT name, to_jsonb(p) FROM people p WHERE name = ANY($1)`)
	people, err := byName(pgtest.Within(t), []string{"Ada", "Bob", "Cid"})
	require.NoError(t, err)
	require.Equal(t, map[string]person{"Ada": {"Ada", []string{"a"}}, "Bob": {"Bob", []string{"b", "c"}}}, people)

	_, err = Query[int64, string](pool, `SELECT id, name FROM people WHERE id = ANY($1)`)(pgtest.Within(t), []int64{1, 3})
	require.Error(t, err, "NULL is no string")
	_, err = Query[int64, string](pool, `SELECT id, name FROM nowhere WHERE id = ANY($1)`)(pgtest.Within(t), []int64{1})
	require.Error(t, err)
}
