package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// pair is a primary and a standby that follows it, and a proxy that leads to the one that is the primary.
type pair struct {
	t                *testing.T
	primary, standby *pgtest.Server
	front            *faultproxy.Proxy
	dsn              string // through front
	admin            *lab   // past it, on the primary
}

func newPair(t *testing.T, settings map[string]string) *pair {
	t.Helper()
	pgtest.CheckLeaks(t)
	p := &pair{t: t, primary: pgtest.Private(t, pgtest.Options{Settings: settings})}
	p.front, p.dsn = throughProxy(t, p.primary.DSN())
	p.admin = &lab{t: t, dsn: p.primary.DSN(), pool: pgtest.Pool(t, p.primary.DSN())}
	return p
}

// follow makes the standby.
func (p *pair) follow() {
	p.t.Helper()
	var err error
	p.standby, err = p.primary.Standby(p.t.Context())
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, p.standby.Close()) })
	eventually(p.t, "the standby follows", func() bool {
		return one[int](p.admin, `SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'`) == 1
	})
}

// awaitReplay waits until the standby has what the primary has now.
func (p *pair) awaitReplay() {
	p.t.Helper()
	at := one[string](p.admin, `SELECT pg_current_wal_insert_lsn()::text`)
	eventually(p.t, "the standby has it", func() bool {
		return one[bool](p.admin, `SELECT coalesce(bool_and(replay_lsn >= $1::text::pg_lsn), false) FROM pg_stat_replication`, at)
	})
}

// failOver kills the primary, and has the standby take its place.
func (p *pair) failOver(others ...*faultproxy.Proxy) {
	p.t.Helper()
	require.NoError(p.t, p.primary.Kill())
	require.NoError(p.t, p.standby.Promote(p.t.Context()))
	for _, front := range append(others, p.front) {
		front.SetTarget(addressOf(p.t, p.standby.DSN()))
	}
}

// With synchronous replication the standby has all that was acknowledged, and all that was delivered.
func TestFailoverThatLosesNothing(t *testing.T) {
	p := newPair(t, map[string]string{"max_prepared_transactions": "10"})
	o := newOracle(t, p.primary, p.dsn)
	w := newWorkers(t, p.primary.DSN(), 2)
	p.follow()
	p.admin.do(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	require.NoError(t, p.primary.Reload())
	eventually(t, "replication is synchronous", func() bool {
		return one[int](p.admin, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 1
	})
	commits := func(n int64) {
		t.Helper()
		before := o.commits.Load()
		require.Eventually(t, func() bool { return o.commits.Load() >= before+n }, oraclePatience, 2*time.Millisecond, "transactions are committed")
	}
	commits(80)
	p.failOver(w.proxies...)
	commits(80)
	o.end()
	w.calm()
	pool, _, s := process(t, p.standby.DSN(), stream.Config{Lease: workerLease})
	o.check(pool, s)
}

// The standby lacks what was committed last, and delivered. Positions of it are not taken for others: durable consumers go on from what
// the new primary has stored, and what they had in hand does not get into it; readers with positions of their own are told.
func TestFailoverThatLosesCommits(t *testing.T) {
	p := newPair(t, nil)
	conn := pgtest.Conn(t, p.primary.DSN())
	require.NoError(t, sql.Install(t.Context(), conn))
	_, err := conn.Exec(t.Context(), `CREATE TABLE ledger (n bigint PRIMARY KEY)`)
	require.NoError(t, err)
	p.follow()
	l := &lab{t: t, dsn: p.dsn}
	l.join(stream.Config{Live: []string{"a"}})

	lost, failedOver := make(chan struct{}), make(chan struct{})
	work := func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if ev.Key[0] == 8 && ctx.Err() == nil {
				select {
				case <-failedOver:
				default:
					close(lost)
					<-failedOver
					return errors.New("the primary is gone")
				}
			}
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
		}
		return nil
	}
	ledger, err := l.s.DurableTx(t.Context(), "ledger", work, &stream.DurableConfig{Batch: 1, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond})
	require.NoError(t, err)
	saw := newSeen()
	d, err := l.s.Durable(t.Context(), "d", saw.handle, &stream.DurableConfig{RetryMin: time.Millisecond})
	require.NoError(t, err)
	followed := newSeen()
	ended := l.follow(t.Context(), followed.add)
	resynced := l.resyncs("a")

	l.publish("a", upTo(5)...)
	saw.await(t, numbers("a", 1, 5)...)
	eventually(t, "the ledger", func() bool { return one[int](p.admin, `SELECT count(*) FROM ledger`) == 5 })
	eventually(t, "the position is stored", func() bool {
		return one[string](p.admin, `SELECT pghub."position"(tick, txn, id) FROM pghub.consumers WHERE name = 'd'`) == d.Position().String()
	})
	p.awaitReplay()
	sender := one[int](p.admin, `SELECT pid FROM pg_stat_replication`)
	require.NoError(t, p.primary.Signal(sender, pgtest.Freeze))
	t.Cleanup(func() { _ = p.primary.Signal(sender, pgtest.Thaw) }) // it is gone with the primary
	l.publish("a", 6, 7, 8)
	saw.await(t, numbers("a", 1, 8)...)
	followed.await(t, numbers("a", 1, 8)...)
	<-lost
	gone := d.Position()

	p.failOver()
	eventually(t, "the pool has a connection", func() bool { return l.pool.Ping(t.Context()) == nil })
	close(failedOver)
	var missing *stream.GapError
	require.ErrorAs(t, <-ended, &missing)
	require.True(t, missing.Gap.Foreign)
	require.ErrorAs(t, <-resynced, &missing, "consumers of live topics")
	require.True(t, missing.Gap.Foreign)
	missing = nil
	for _, err := range l.s.Read(t.Context(), stream.At(gone)) {
		require.ErrorAs(t, err, &missing)
		require.True(t, missing.Gap.Foreign)
	}
	require.NotNil(t, missing)

	for n := 9; n <= 11; n++ {
		eventually(t, "it is published", func() bool { return l.s.Publish(t.Context(), "a", []int64{int64(n)}, n) == nil })
	}
	saw.await(t, numbers("a", 1, 11)...)
	eventually(t, "the ledger goes on", func() bool { return one[int](l, `SELECT count(*) FROM ledger WHERE n >= 9`) == 3 })
	require.Equal(t, []int64{1, 2, 3, 4, 5, 9, 10, 11}, one[[]int64](l, `SELECT array_agg(n ORDER BY n) FROM ledger`), "what the new primary has, and nothing else")
	require.Zero(t, d.Stats().Resyncs)
	require.Zero(t, ledger.Stats().Resyncs)
}
