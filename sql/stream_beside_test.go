package sql

import (
	"context"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// Rotation does not wait for pg_dump, which holds its locks to the end, nobody waits behind it meanwhile, and it goes on afterwards. What
// the dump began to read it gets whole.
func TestRotationBesideADump(t *testing.T) {
	b := setUp(t)
	b.do(`SELECT pghub.publish('a', i, '"in the dump"') FROM generate_series(1, 50) AS i`)
	require.NotNil(t, b.tick())
	b.age("37 hours")
	require.Contains(t, pgtest.Dump(t, b.dsn), "in the dump") // or there is none that can
	b.do(`SET statement_timeout = '30s'`)

	// The dump locks all tables before it reads any. It comes to a halt at one that somebody changes, with all other locks in its hands;
	// this one is the last in the order in which it takes them.
	b.do(`CREATE TABLE public.last_of_all (n int)`)
	holder := pgtest.Conn(t, b.dsn)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE public.last_of_all IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	cmd := exec.Command("pg_dump", "-d", b.dsn)
	type result struct {
		text string
		err  error
	}
	ended := make(chan result, 1)
	gone := make(chan struct{})
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		defer close(gone)
		text, _ := io.ReadAll(out) // what is missing shows
		ended <- result{string(text), cmd.Wait()}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-gone
	})
	waits := func() bool {
		return one[bool](b, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'public.last_of_all'::regclass AND NOT granted)
			AND EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'pg_dump' AND l.relation = 'pghub.log_1'::regclass AND l.granted)`)
	}
	require.Eventually(t, waits, time.Minute, 10*time.Millisecond, "the dump comes to its locks")

	require.False(t, b.rotate(), "the dump has the table")
	b.do(`SELECT pghub.publish('a', 1, '"during the dump"')`) // neither writers nor ticks nor readers wait
	require.NotNil(t, b.tick())
	require.Equal(t, "end", one[string](b, `SELECT value FROM pghub.page((SELECT min(tick) FROM pghub.ticks), $1, $1, NULL) WHERE topic IS NULL`, int64(wholeTick)))
	require.False(t, b.rotate())
	require.NoError(t, tx.Rollback(t.Context()))
	dump := <-ended
	require.NoError(t, dump.err)
	require.Equal(t, 50, strings.Count(dump.text, `"in the dump"`))
	require.NotContains(t, dump.text, "during the dump")
	require.Eventually(t, b.rotate, time.Minute, 10*time.Millisecond, "the dump is over, and its server process ends")
}

// What rotation drops, it drops by TRUNCATE: VACUUM finds nothing dead in the log but what was rolled back.
func TestVacuumFindsWhatWasRolledBack(t *testing.T) {
	b := setUp(t)
	cfg, err := pgx.ParseConfig(b.dsn)
	require.NoError(t, err)
	found, looked := 0, false
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		// Until version 14, and from 15.
		for _, m := range regexp.MustCompile(`found (\d+) removable|tuples: (\d+) removed`).FindAllStringSubmatch(n.Message+n.Detail, -1) {
			dead, err := strconv.Atoi(m[1] + m[2])
			require.NoError(t, err)
			found += dead
			looked = true
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	dead := func(table string) int {
		t.Helper()
		found, looked = 0, false
		_, err := conn.Exec(t.Context(), `VACUUM (VERBOSE) pghub.`+table)
		require.NoError(t, err)
		require.True(t, looked, "no word of what it found")
		return found
	}
	for _, table := range []string{"log_0", "log_1", "log_2", "ticks_0", "ticks_1", "ticks_2"} { // else one of the server's comes before this one
		b.do(`ALTER TABLE pghub.` + table + ` SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)`)
	}
	fill := func() {
		t.Helper()
		b.do(`SELECT pghub.publish('a', i) FROM generate_series(1, 100) AS i`)
		require.NotNil(t, b.tick())
	}
	fill()
	fill()
	require.Zero(t, dead("ticks_0"))
	require.Zero(t, dead("log_0"))
	for range 4 { // once around, and on
		b.age("37 hours")
		require.True(t, b.rotate())
		fill()
	}
	require.Equal(t, [3]int{100, 100, 100}, b.kept())
	for _, table := range []string{"log_0", "log_1", "log_2"} {
		require.Zero(t, dead(table), table)
	}
	b.do(`BEGIN; SELECT pghub.publish('a', 1), pghub.publish('a', 2); ROLLBACK`)
	require.Equal(t, 2, dead("log_1"))
}

// A rotation that does not come to its commit, by a crash or a lost connection, leaves no trace: the sequence that names the table
// is put back. Else the oldest events would get company of the newest, and those in between be dropped first.
func TestRotationThatIsRolledBack(t *testing.T) {
	b := setUp(t)
	start := one[int64](b, "SELECT tick FROM pghub.locate('latest')")
	next := 0
	fill := func() {
		t.Helper()
		next++
		b.do(`SELECT pghub.publish('a', 1, $1::text)`, strconv.Itoa(next))
		require.NotNil(t, b.tick())
	}
	fill()
	for range 2 {
		b.age("37 hours")
		require.True(t, b.rotate())
		fill()
	}
	b.age("37 hours")
	b.do("BEGIN")
	require.True(t, b.rotate())
	b.do("ROLLBACK")
	require.Equal(t, []string{"1", "2", "3"}, b.streamed(start))
	b.do(`SELECT pghub.publish('a', 1, '4')`) // into the table that the sequence names
	require.NotNil(t, b.tick())
	b.age("37 hours")
	b.rotate()
	b.age("100 hours")
	b.do(`SELECT pghub.publish('a', 1, '5')`)
	require.NotNil(t, b.tick())
	b.rotate()
	b.rotate()

	// Whatever has been dropped by now: what is left is the end of the stream, without a hole, and who was before it is told.
	events, end := b.page(start, wholeTick, wholeTick, nil)
	if *end.Value == "expired" {
		events, _ = b.page(end.Tick, wholeTick, wholeTick, nil)
	}
	var values []string
	for _, ev := range events {
		values = append(values, *ev.Value)
	}
	all := []string{"1", "2", "3", "4", "5"}
	require.Equal(t, all[len(all)-len(values):], values)
	require.NotEmpty(t, values)

	// It goes on, once nothing of the table that had been named by mistake is young.
	next = len(all)
	for range 3 {
		b.age("100 hours")
		b.rotate()
		fill()
	}
	events, _ = b.page(one[int64](b, `SELECT min(tick) FROM pghub.ticks`), wholeTick, wholeTick, nil)
	require.Equal(t, "8", *events[len(events)-1].Value)
	require.LessOrEqual(t, len(events), 4, "old ones are dropped")
}
