package sql

import (
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// A page has what its ticks say: the events of a tick are those that its snapshot sees, and that of the tick before does not. pghub.page finds
// them in another way, with one look at the log for all of its ticks. So transactions that outlive many ticks, and such that are
// rolled back, whole or in part, are read by both; by pghub.page also while they come.
func TestPagesHaveWhatTheirTicksSay(t *testing.T) {
	b := setUp(t)
	conns := make([]*pgx.Conn, 6)
	for i := range conns {
		conns[i] = pgtest.Conn(t, b.dsn)
	}
	start := one[int64](b, `SELECT min(tick) FROM pghub.ticks`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	open := make([]pgx.Tx, len(conns))
	end := func(i int, commit bool) {
		t.Helper()
		if open[i] == nil {
			return
		}
		if commit {
			require.NoError(t, open[i].Commit(t.Context()))
		} else {
			require.NoError(t, open[i].Rollback(t.Context()))
		}
		open[i] = nil
	}
	type place struct{ Tick, Txn, ID int64 }
	var live []place
	at := place{start, wholeTick, wholeTick}
	read := func(from place) (got []place, end place, state string) {
		t.Helper()
		events, last := b.page(from.Tick, from.Txn, from.ID, nil)
		for _, ev := range events {
			got = append(got, place{ev.Tick, ev.Txn, ev.ID})
		}
		return got, place{last.Tick, last.Txn, last.ID}, *last.Value
	}
	readOn := func() {
		t.Helper()
		var got []place
		got, at, _ = read(at)
		live = append(live, got...)
	}
	for range 400 {
		i := random.IntN(len(conns))
		switch random.IntN(12) {
		case 0, 1, 2, 3, 4:
			if open[i] == nil {
				tx, err := conns[i].Begin(t.Context())
				require.NoError(t, err)
				open[i] = tx
			}
			for _, sql := range [][]string{
				{`SELECT pghub.capture('a', NULL, '1', NULL)`},
				{`SAVEPOINT s`, `SELECT pghub.capture('a', NULL, '2', NULL)`},
				{`SAVEPOINT s`, `SELECT pghub.capture('a', NULL, '3', NULL)`, `ROLLBACK TO s`},
			}[random.IntN(3)] {
				_, err := open[i].Exec(t.Context(), sql)
				require.NoError(t, err)
			}
		case 5:
			end(i, false)
		case 6, 7:
			end(i, true)
		case 8, 9:
			readOn()
		default:
			b.do(`SELECT pghub.tick()`)
		}
	}
	for i := range open {
		if i%2 == 0 { // the others stay open
			end(i, true)
		}
	}
	b.do(`SELECT pghub.tick()`)

	const said = `SELECT s.tick, max(l.id) OVER (PARTITION BY s.tick, l.xid) AS txn, l.id
		FROM (SELECT t.tick, t.snapshot, lag(t.snapshot) OVER (ORDER BY t.tick) AS before FROM pghub.ticks t) AS s
		JOIN pghub.log l ON pg_visible_in_snapshot(l.xid, s.snapshot) AND NOT pg_visible_in_snapshot(l.xid, s.before)
		ORDER BY 1, 2, 3`
	rows, err := b.conn.Query(t.Context(), said)
	require.NoError(t, err)
	want, err := pgx.CollectRows(rows, pgx.RowToStructByPos[place])
	require.NoError(t, err)
	require.NotEmpty(t, want)
	readOn()
	require.Equal(t, want, live)
	got, _, state := read(place{start, wholeTick, wholeTick})
	require.Equal(t, want, got)
	require.Equal(t, "end", state)
	for i := 0; i < len(want)-1; i += 1 + random.IntN(5) {
		got, _, _ := read(want[i])
		require.Equal(t, want[i+1:], got, "behind %v", want[i])
		got, _, _ = read(place{want[i].Tick, wholeTick, wholeTick})
		rest := want[i+1:]
		for len(rest) > 0 && rest[0].Tick == want[i].Tick {
			rest = rest[1:]
		}
		require.ElementsMatch(t, rest, got)
	}
	for i := range open {
		end(i, false)
	}
}

// Where there is no tick behind a position, a page reads nothing of the log, not even of transactions that have ended since. But it has the session
// plan the query that does, and so lock its tables: the first event does not wait for that.
func TestAPageOfNoTick(t *testing.T) {
	b := setUp(t)
	writer := pgtest.Conn(t, b.dsn)
	open, err := writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), `SELECT pghub.publish('a', i) FROM generate_series(1, 100) AS i`)
	require.NoError(t, err)
	b.do(`SELECT pghub.publish('a', 101)`)
	tick := b.tick()
	require.NotNil(t, tick)
	require.NoError(t, open.Commit(t.Context()))

	fetched := func() int64 {
		t.Helper()
		return one[int64](b, `SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables WHERE relid = 'pghub.log_0'::regclass`)
	}
	b.do(`BEGIN`)
	before := fetched() // by this connection, in this transaction: pg_stat_xact_user_tables has it at once
	events, end := b.page(*tick, wholeTick, wholeTick, nil)
	require.Empty(t, events)
	require.Equal(t, "end", *end.Value)
	require.Equal(t, *tick, end.Tick)
	require.True(t, one[bool](b, `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'pghub.log_0'::regclass)`))
	require.Equal(t, before, fetched())
	b.do(`COMMIT`)

	require.NotNil(t, b.tick())
	events, _ = b.page(*tick, wholeTick, wholeTick, nil)
	require.Len(t, events, 100)
}
