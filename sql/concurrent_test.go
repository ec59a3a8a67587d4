package sql

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Writers that work at once, with rollbacks and savepoints, announce exactly what they committed: every change, in the
// order in which it happened within its transaction.
func TestPropertyConcurrentTransactions(t *testing.T) {
	const writers = 4
	for level, batch := range map[Level]int{Row: 1, Statement: 5} {
		t.Run(string(level), func(t *testing.T) {
			b := setUp(t, "t")
			b.do(`CREATE TABLE t (id int PRIMARY KEY, v int)`)
			require.NoError(t, Apply(t.Context(), b.conn, Watch{Table: "t", Level: level}))
			var wg sync.WaitGroup
			committed := make([][][]string, writers)
			errs := make([]error, writers)
			for i := range writers {
				w := &writer{rand.New(rand.NewPCG(uint64(i), 7)), i * 100, batch}
				conn := pgtest.Conn(t, b.dsn)
				wg.Go(func() { committed[i], errs[i] = w.run(t.Context(), conn) })
			}
			wg.Wait()

			announced := make([][][]string, writers)
			for _, payload := range b.heard() {
				ev := parse(t, payload)
				var id int
				_, err := fmt.Sscan(ev.key, &id)
				require.NoError(t, err)
				transactions := &announced[id/100]
				if ev.Seq == 1 {
					*transactions = append(*transactions, nil)
				}
				last := &(*transactions)[len(*transactions)-1]
				*last = append(*last, ev.Op+" "+sortedKeys(ev.key))
				require.EqualValues(t, len(*last), ev.Seq, "numbered without a gap")
			}
			for i := range writers {
				require.NoError(t, errs[i])
				require.Greater(t, len(committed[i]), 50)
				require.Equal(t, committed[i], announced[i])
			}
		})
	}
}

// writer makes random transactions on rows of its own.
type writer struct {
	random *rand.Rand
	first  int // its rows are first to first+19
	batch  int // rows a statement, at most
}

// run returns what the transactions that were committed did, as lists of "operation keys".
func (w *writer) run(ctx context.Context, conn *pgx.Conn) (committed [][]string, err error) {
	present := map[int]bool{}
	for range 200 {
		did, after, ok, err := w.within(ctx, conn, present, 3)
		if err != nil {
			return nil, err
		}
		if ok {
			present = after
			if len(did) > 0 {
				committed = append(committed, did)
			}
		}
	}
	return committed, nil
}

// within makes a transaction, or a savepoint within one, and says whether it was committed. Rows come and go again,
// and get one of two values: many changes are equal to earlier ones.
func (w *writer) within(ctx context.Context, db interface {
	Begin(context.Context) (pgx.Tx, error)
}, before map[int]bool, depth int,
) (did []string, present map[int]bool, ok bool, err error) {
	present = maps.Clone(before)
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	for range w.random.IntN(6) {
		if depth > 0 && w.random.IntN(3) == 0 {
			more, after, ok, err := w.within(ctx, tx, present, depth-1)
			if err != nil {
				return nil, nil, false, err
			}
			if ok {
				did, present = append(did, more...), after
			}
			continue
		}
		var ids []string
		id := w.first + w.random.IntN(20)
		there := present[id]
		op := []string{"update", "delete"}[w.random.IntN(2)]
		if !there {
			op = "insert"
		}
		for last := min(id+w.random.IntN(w.batch), w.first+19); id <= last; id++ {
			if present[id] == there {
				ids = append(ids, fmt.Sprint(id))
				present[id] = op != "delete"
			}
		}
		list := strings.Join(ids, ",")
		statement := map[string]string{
			"insert": `INSERT INTO t SELECT unnest(ARRAY[%s]), 0`,
			"update": fmt.Sprintf(`UPDATE t SET v = %d`, w.random.IntN(2)) + ` WHERE id IN (%s)`,
			"delete": `DELETE FROM t WHERE id IN (%s)`,
		}[op]
		if _, err := tx.Exec(ctx, fmt.Sprintf(statement, list)); err != nil {
			return nil, nil, false, err
		}
		did = append(did, op+" "+sortedKeys(list))
	}
	if w.random.IntN(3) == 0 {
		return nil, nil, false, tx.Rollback(ctx)
	}
	return did, present, true, tx.Commit(ctx)
}

func sortedKeys(list string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Split(list, ","))), ",")
}
