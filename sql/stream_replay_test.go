package sql

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// published writes an event and makes it readable. It returns its tick.
func (b *bench) published(topic, value string) int64 {
	b.t.Helper()
	b.do(`SELECT pghub.publish($1, 1, $2::text)`, topic, value)
	tick := b.tick()
	require.NotNil(b.t, tick)
	return *tick
}

// replayed returns what replay has put before a consumer, and takes it away.
func (b *bench) replayed() (values []string) {
	b.t.Helper()
	return one[[]string](b, `WITH gone AS (DELETE FROM pghub.parked WHERE again RETURNING *) SELECT array_agg(value ORDER BY tick, txn, id) FROM gone`)
}

// Replay gives a consumer what it has had, and no more: no other topics, and nothing that is still to come.
func TestReplayGivesWhatAConsumerHasHad(t *testing.T) {
	b := setUp(t)
	token := one[int64](b, `SELECT token FROM pghub.attach('c', 'x', '1 hour', '{orders,bills}', 'earliest')`)
	b.published("orders", "1")
	b.published("salaries", "2")
	tick := b.published("bills", "3")
	b.published("orders", "4")
	b.do(`SELECT pghub.store('c', $1, '1 h', $2, $3, $3), pghub.detach('c', $1)`, token, tick, int64(wholeTick))
	const replay = `SELECT pghub.replay('c', now() - interval '1 hour', topics => $1)`
	require.EqualValues(t, 2, one[int64](b, replay, nil))
	require.Equal(t, []string{"1", "3"}, b.replayed())
	require.EqualValues(t, 1, one[int64](b, replay, []string{"orders", "salaries"}))
	require.Equal(t, []string{"1"}, b.replayed())
	require.Zero(t, one[int64](b, replay, []string{"salaries"}))
	require.Zero(t, one[int64](b, `SELECT pghub.replay('c', now() + interval '1 hour')`))

	// One that wants all topics.
	b.do(`SELECT pghub.attach('all', 'x', '0 s', NULL, 'latest')`)
	require.EqualValues(t, 4, one[int64](b, `SELECT pghub.replay('all', '-infinity')`))
	require.Equal(t, []string{"1", "2", "3", "4"}, b.replayed())
	b.fails("42704", "there is no consumer", `SELECT pghub.replay('x', '-infinity')`)
}

// Whoever works for a consumer says once a second how far that is. Replay waits for it.
func TestReplayWaitsForThePosition(t *testing.T) {
	b := setUp(t)
	token := one[int64](b, `SELECT token FROM pghub.attach('c', 'x', '1 hour', NULL, 'earliest')`)
	b.published("a", "1")
	tick := b.published("a", "2")
	operator := pgtest.Conn(t, b.dsn)
	replayed := make(chan error, 1)
	var n int
	go func() {
		replayed <- operator.QueryRow(context.Background(), `SELECT pghub.replay('c', now() - interval '1 hour')`).Scan(&n)
	}()
	require.Eventually(t, func() bool {
		return one[bool](b, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND (wait_event = 'PgSleep' OR state <> 'active'))`, operator.PgConn().PID())
	}, time.Minute, time.Millisecond)
	b.do(`SELECT pghub.store('c', $1, '1 h', $2, $3, $3)`, token, tick, int64(wholeTick))
	require.NoError(t, <-replayed)
	require.Equal(t, 2, n)
}
