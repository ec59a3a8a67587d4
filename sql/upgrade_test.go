package sql

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// version4 takes pghub back to version 4, as it was released.
func version4(b *bench) {
	b.t.Helper()
	require.NoError(b.t, Uninstall(b.t.Context(), b.conn))
	steps, err := load(files)
	require.NoError(b.t, err)
	for _, step := range steps[:4] {
		b.do(step.text)
	}
}

// From version 4 with watches in use, while others write: the upgrade touches no table, and Apply changes one after the other.
// Nothing that was written is missing, and no writer failed.
func TestUpgradeUnderWriteLoad(t *testing.T) {
	const tables, writers = 4, 4
	b := setUp(t, "t")
	version4(b)
	var watches []Watch
	for i := range tables {
		level := []Level{Row, Statement}[i%2]
		b.do(fmt.Sprintf(`CREATE TABLE t%d (id bigint PRIMARY KEY, v text); SELECT pghub.watch('t%d', topic => 't', level => '%s')`, i, i, level))
		watches = append(watches, Watch{Table: fmt.Sprint("t", i), Topic: "t", Level: level})
	}
	before := one[[]uint32](b, `SELECT array_agg(oid ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal`)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	errs, written := make([]error, writers), make([]int, writers)
	started := make(chan struct{}, writers)
	for w := range writers {
		conn := pgtest.Conn(t, b.dsn)
		wg.Go(func() {
			for ctx.Err() == nil {
				written[w]++
				_, errs[w] = conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO t%d VALUES (%d, 'x')`, (w+written[w])%tables, w*1_000_000+written[w]))
				if errs[w] != nil {
					return
				}
				if written[w] == 20 {
					started <- struct{}{}
				}
			}
		})
	}
	for range writers {
		<-started
	}
	require.NoError(t, Install(t.Context(), b.conn))
	require.Equal(t, before, one[[]uint32](b, `SELECT array_agg(oid ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal`), "the upgrade leaves the triggers alone")
	require.Equal(t, tables, one[int](b, `SELECT warnings FROM pghub.health`))
	require.NoError(t, Apply(t.Context(), b.conn, watches...))
	require.Zero(t, one[int](b, `SELECT warnings FROM pghub.health`))
	stop()
	wg.Wait()
	require.NoError(t, Apply(t.Context(), b.conn, watches...))

	all := 0
	for w := range writers {
		require.NoError(t, errs[w])
		all += written[w]
	}
	keys := map[string]bool{}
	for _, payload := range b.heard() {
		keys[parse(t, payload).key] = true
	}
	require.Len(t, keys, all, "each row was announced")
}

// What version 4 made works on, can be muted, is shown, and can be ended.
func TestWatchesOfVersion4(t *testing.T) {
	b := setUp(t, "people", "orders")
	version4(b)
	b.do(people + `CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY);
		SELECT pghub.watch('people'), pghub.watch('people', name => 'two', topic => 'it''s \1', level => 'statement'), pghub.watch('sales.orders', level => 'change')`)
	require.NoError(t, Install(t.Context(), b.conn))
	require.Equal(t, "1", b.change(`INSERT INTO people VALUES (1, 'a')`).key)
	require.Equal(t, []string{"it's \\1", "orders", "people"}, one[[]string](b, `SELECT array_agg(topic ORDER BY topic) FROM pghub.watches WHERE warning IS NOT NULL`))

	b.do(`SELECT pghub.mute('people'), pghub.mute('it''s \1')`)
	b.heard()
	require.Empty(t, b.changes(`INSERT INTO people VALUES (2, 'a')`))
	require.Len(t, b.after(`INSERT INTO sales.orders VALUES (2)`), 1)
	require.Equal(t, 2, one[int](b, `SELECT count(*) FROM pghub.watches WHERE muted`))
	b.do(`CALL pghub.unmute()`)
	b.heard()
	require.Len(t, b.changes(`INSERT INTO people VALUES (3, 'a')`), 1)

	// Forged keys are no more possible with them either, before anybody calls watch.
	b.do(`ALTER TABLE people ALTER id TYPE text`)
	require.Empty(t, b.change(`INSERT INTO people VALUES ('8:{}', 'a')`).key)
	b.do(`SET pghub.seq = 'abc'`)
	require.Len(t, b.changes(`INSERT INTO people VALUES ('9', 'a')`), 1)

	require.True(t, one[bool](b, `SELECT pghub.watch('sales.orders', level => 'change')`))
	require.Equal(t, "orders", one[string](b, `SELECT topic FROM pghub.watches WHERE warning IS NULL`), "it keeps its topic")
	require.True(t, one[bool](b, `SELECT pghub.unwatch('people', 'two')`))
	require.True(t, one[bool](b, `SELECT pghub.watch('people')`))
	require.Zero(t, one[int](b, `SELECT warnings FROM pghub.health`))
}
