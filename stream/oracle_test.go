package stream_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

var soakFor = flag.Duration("stream.soak", 8*time.Second, "how long TestFaults makes faults")

// oracle writes changes of rows, each with its event, and knows afterwards what has to have been delivered.
type oracle struct {
	t       *testing.T
	dsn     string
	commits atomic.Int64
	stop    chan struct{}
	writers sync.WaitGroup
}

const oracleRows = 40

func newOracle(t *testing.T, dsn string) *oracle {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	require.NoError(t, sql.Install(t.Context(), conn))
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`
		CREATE TABLE rows (row bigint PRIMARY KEY, version bigint NOT NULL);
		INSERT INTO rows SELECT n, 0 FROM generate_series(1, %d) AS n;
		CREATE TABLE got (n bigserial PRIMARY KEY, row bigint, version bigint, txn text, part int, parts int);
		CREATE TABLE ledger (n bigserial PRIMARY KEY, row bigint, version bigint, txn text, part int, parts int, UNIQUE (row, version))`, oracleRows))
	require.NoError(t, err)
	return &oracle{t: t, dsn: dsn, stop: make(chan struct{})}
}

// write changes rows until stop, on a connection of its own, over and over again.
func (o *oracle) write(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	ctx := context.Background()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}()
	for {
		select {
		case <-o.stop:
			return
		default:
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, o.dsn); err != nil {
				conn = nil
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		if o.transaction(ctx, conn, rng) == nil {
			o.commits.Add(1)
		}
	}
}

// transaction changes some rows at some isolation level, perhaps within a savepoint, stays open for a while, and may roll back.
func (o *oracle) transaction(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	level := []string{"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[rng.IntN(4)]
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL "+level); err != nil {
		return err
	}
	if rng.IntN(3) == 0 {
		_, _ = conn.Exec(ctx, "SET LOCAL synchronous_commit = off")
	}
	rollBack := func(err error) error {
		_, _ = conn.Exec(ctx, "ROLLBACK")
		return err
	}
	rows := rng.Perm(oracleRows)[:1+rng.IntN(3)]
	var txn string
	if err := conn.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&txn); err != nil {
		return rollBack(err)
	}
	for i, row := range rows {
		if rng.IntN(4) == 0 { // what is rolled back is as if it had never been
			const lost = `SAVEPOINT s; UPDATE rows SET version = version + 1 WHERE row = %d; SELECT pghub.publish('rows', %[1]d, '"lost"'); ROLLBACK TO s`
			if _, err := conn.Exec(ctx, fmt.Sprintf(lost, row+1)); err != nil {
				return rollBack(err)
			}
		}
		if rng.IntN(4) == 0 {
			if _, err := conn.Exec(ctx, "SAVEPOINT sub"); err != nil {
				return rollBack(err)
			}
		}
		var version int64
		if err := conn.QueryRow(ctx, "UPDATE rows SET version = version + 1 WHERE row = $1 RETURNING version", row+1).Scan(&version); err != nil {
			return rollBack(err)
		}
		c := change{Row: int64(row + 1), Version: version, Txn: txn, Part: i + 1, Parts: len(rows)}
		if _, err := conn.Exec(ctx, "SELECT pghub.publish('rows', $1::bigint, $2::text)", row+1, encode(c)); err != nil {
			return rollBack(err)
		}
	}
	if rng.IntN(20) == 0 {
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
	if rng.IntN(8) == 0 {
		return rollBack(fmt.Errorf("rolled back"))
	}
	_, err := conn.Exec(ctx, "COMMIT")
	return err
}

// check compares what was delivered with what was committed, once all of it has been.
func (o *oracle) check(pool *pgxpool.Pool, s *stream.Stream) {
	t := o.t
	count := func(query string) (n int64) {
		_ = pool.QueryRow(t.Context(), query).Scan(&n)
		return n
	}
	committed := count(`SELECT sum(version) FROM rows`)
	require.Eventually(t, func() bool {
		return count(`SELECT count(*) FROM ledger`) == committed && count(`SELECT count(*) FROM (SELECT DISTINCT row, version FROM got) AS g`) == committed
	}, patience, 50*time.Millisecond, "everything is delivered to both consumers")

	var order []change
	for range 2 { // the same at each replay
		var again []change
		for ev, err := range s.Read(t.Context(), stream.Earliest) {
			require.NoError(t, err)
			c, err := pghub.Decode[change](ev)
			require.NoError(t, err)
			again = append(again, c)
		}
		if order != nil {
			require.Equal(t, order, again)
		}
		order = again
	}
	require.EqualValues(t, committed, len(order))
	next := make(map[int64]int64)
	for i, c := range order {
		next[c.Row]++
		require.Equal(t, next[c.Row], c.Version, "a row goes backwards, or has a gap: event %d, %+v", i, c)
		if c.Part > 1 {
			require.Equal(t, order[i-1].Txn, c.Txn, "a transaction is torn: event %d", i)
			require.Equal(t, order[i-1].Part+1, c.Part)
		}
	}
	rows, err := pool.Query(t.Context(), `SELECT row, version, txn, part, parts FROM ledger ORDER BY n`)
	require.NoError(t, err)
	ledger, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
	require.NoError(t, err)
	require.Equal(t, order, ledger, "DurableTx: each once, in the order of the stream")

	rows, err = pool.Query(t.Context(), `SELECT row, version, txn, part, parts FROM (SELECT DISTINCT ON (row, version) * FROM got ORDER BY row, version, n) AS g ORDER BY n`)
	require.NoError(t, err)
	first, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
	require.NoError(t, err)
	require.Equal(t, order, first, "Durable: in the order of the stream, but for what comes again")
	t.Logf("%d commits, %d events, %d of them delivered more than once by Durable", o.commits.Load(), committed, count(`SELECT count(*) FROM got`)-committed)
}

// Processes are killed and frozen, connections cut, the server crashes: nothing is lost, nothing comes twice where the position
// is stored with the work, no row goes backwards, and no transaction is torn.
func TestFaults(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "10", "default_transaction_isolation": "serializable"}})
	dsn, _, err := server.CreateDatabase(t.Context())
	require.NoError(t, err)
	o := newOracle(t, dsn)
	for i := range 4 {
		o.writers.Go(func() { o.write(uint64(i)) })
	}
	workers := newWorkers(t, dsn, 2)
	admin, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	defer admin.Close()

	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	faults := make(map[string]int)
	for deadline := time.Now().Add(*soakFor); time.Now().Before(deadline); time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) {
		owner := ""
		if rng.IntN(3) > 0 { // one that works
			_ = admin.QueryRow(t.Context(), `SELECT owner FROM pghub.consumers WHERE owner IS NOT NULL ORDER BY random() LIMIT 1`).Scan(&owner)
		}
		i := workers.find(owner)
		switch kind := rng.IntN(20); {
		case kind < 8:
			faults["kill -9"]++
			workers.kill(i)
		case kind < 12:
			faults["freeze"]++
			workers.signal(i, pgtest.Freeze)
			time.Sleep(2 * workerLease)
			workers.signal(i, pgtest.Thaw)
		case kind < 18:
			faults["cut connections"]++
			_, _ = admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND random() < 0.5`)
		default:
			faults["crash of the server"]++
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(t.Context()))
		}
	}
	close(o.stop)
	o.writers.Wait()
	t.Logf("%v, %d processes died", faults, workers.deaths())

	pool, _, s := process(t, dsn, stream.Config{Lease: workerLease})
	o.check(pool, s)
}
