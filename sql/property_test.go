package sql

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// shape is a table with a primary key that can be made from an integer i, and changed.
type shape struct {
	columns string // with v as one that is no key
	pk      []string
	from    string // the key columns of row i
	change  string // a new value for the first of them, unlike all others
	ints    bool
}

var shapes = []shape{
	{`id bigint PRIMARY KEY, v int`, []string{"id"}, `i`, `-id`, true},
	{`v int, b int, a smallint, PRIMARY KEY (a, b)`, []string{"a", "b"}, `(i % 1000)::smallint, i`, `-a - 1`, true},
	{`id text PRIMARY KEY, v int`, []string{"id"}, `repeat('é"', i % 40) || i`, `id || '\'`, false},
	{`u uuid, "N n" int, v int, PRIMARY KEY ("N n", u)`, []string{`"N n"`, "u"}, `i, md5(i::text)::uuid`, `-"N n"`, false},
	{`d numeric PRIMARY KEY, v int`, []string{"d"}, `i / 8.0`, `-d - 1`, false},
}

func (s shape) list() string {
	list := s.pk[0]
	for _, column := range s.pk[1:] {
		list += ", " + column
	}
	return list
}

// row is a query part: the key of a row of t as the events write it.
func (s shape) row() string {
	return `(SELECT row_to_json(k.*)::text FROM (SELECT ` + s.list() + `) k)`
}

// announced returns the keys that an event names.
func (s shape) announced(t testing.TB, payload string) (rows []string) {
	key, value, _ := strings.Cut(payload[1:], ":")
	var ev struct {
		ID        json.RawMessage   `json:"id"`
		OldID     json.RawMessage   `json:"old_id"`
		IDs       []json.RawMessage `json:"ids"`
		Part      int
		Truncated bool
	}
	require.NoError(t, json.Unmarshal([]byte(value), &ev), payload)
	require.False(t, ev.Truncated)
	for _, raw := range append(ev.IDs, ev.ID, ev.OldID) {
		if raw != nil {
			rows = append(rows, string(raw))
		}
	}
	if ev.Part > 0 && s.ints {
		for keys := range slices.Chunk(strings.Split(key, ","), len(s.pk)) {
			row := ""
			for i, column := range s.pk {
				row += `,"` + column + `":` + keys[i]
			}
			rows = append(rows, "{"+row[1:]+"}")
		}
	}
	return rows
}

// For random statements of 1 to 100,000 rows on tables of all shapes, what is announced is what was changed.
func TestPropertyKeysAnnouncedAreRowsChanged(t *testing.T) {
	for i, s := range shapes {
		for _, level := range []Level{Statement, Row} {
			t.Run(fmt.Sprintf("%s %d", level, i), func(t *testing.T) {
				b := setUp(t, "t")
				random := rand.New(rand.NewPCG(uint64(i), 1))
				b.do(`CREATE TABLE t (` + s.columns + `)`)
				require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: "t", Level: level}))
				next := 1
				insert := func(rows int) {
					b.step(s, fmt.Sprintf(`INSERT INTO t (%s, v) SELECT %s, i %% 7 FROM generate_series(%d, %d) i`, s.list(), s.from, next, next+rows-1))
					next += rows
				}
				for _, rows := range []int{1, 2, 10, 500, 2000} {
					insert(rows)
					for range 3 {
						where := fmt.Sprintf(`v %% %d = %d`, 1+random.IntN(4), random.IntN(2))
						switch random.IntN(4) {
						case 0:
							b.step(s, `DELETE FROM t WHERE `+where)
						case 1:
							b.step(s, fmt.Sprintf(`UPDATE t SET %s = %s WHERE %s`, s.pk[0], s.change, where))
						default:
							b.step(s, `UPDATE t SET v = v + 1 WHERE `+where)
						}
					}
				}
				if testing.Short() || i != 0 {
					return // the size of keys makes no difference to how many there may be
				}
				b.do(`TRUNCATE t`)
				b.heard()
				insert(100_000)
				if level == Row {
					return
				}
				b.step(s, fmt.Sprintf(`UPDATE t SET %s = %s`, s.pk[0], s.change))
				b.step(s, `DELETE FROM t`)
			})
		}
	}
}

// step runs a statement on t and holds what it announces against what it changed: the rows that are there before and
// not after, or after and not before, or in another version (xmin, ctid).
func (b *bench) step(s shape, statement string) {
	b.t.Helper()
	b.do(`CREATE TEMP TABLE IF NOT EXISTS before (id text, version text); TRUNCATE before`)
	version := `t.xmin::text || t.ctid::text`
	b.do(`INSERT INTO before SELECT ` + s.row() + `, ` + version + ` FROM t`)
	b.do(statement)
	rows, err := b.conn.Query(b.t.Context(), `SELECT coalesce(o.id, n.id) FROM before o
		FULL JOIN (SELECT `+s.row()+` AS id, `+version+` AS version FROM t) n ON o.id = n.id
		WHERE o.version IS DISTINCT FROM n.version`)
	require.NoError(b.t, err)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err)
	var got []string
	for _, payload := range b.heard() {
		got = append(got, s.announced(b.t, payload)...)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.True(b.t, slices.Equal(want, got), "%s: %d rows changed, %d announced", statement, len(want), len(got))
}
