package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// oracle writes changes of rows, each with its event, and knows afterwards what has to have been delivered.
type oracle struct {
	t       *testing.T
	dsn     string
	commits atomic.Int64
	stop    chan struct{}
	writers sync.WaitGroup

	mu   sync.Mutex
	open chan struct{} // closed while writers may begin transactions
}

const oracleRows = 40

// newOracle makes the tables. Writers connect to dsn, which may lead through a proxy, and the tables are made past it.
func newOracle(t *testing.T, server *pgtest.Server, dsn string) *oracle {
	t.Helper()
	conn := pgtest.Conn(t, server.DSN())
	require.NoError(t, sql.Install(t.Context(), conn))
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`
		CREATE TABLE rows (row bigint PRIMARY KEY, version bigint NOT NULL);
		INSERT INTO rows SELECT n, 0 FROM generate_series(1, %d) AS n;
		CREATE TABLE got (n bigserial PRIMARY KEY, row bigint, version bigint, txn text, part int, parts int);
		CREATE TABLE ledger (n bigserial PRIMARY KEY, row bigint, version bigint, txn text, part int, parts int, UNIQUE (row, version))`, oracleRows))
	require.NoError(t, err)
	o := &oracle{t: t, dsn: dsn, stop: make(chan struct{}), open: make(chan struct{})}
	close(o.open)
	for i := range 4 {
		w := &writer{o: o, rng: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))}
		o.writers.Go(w.run)
	}
	t.Cleanup(o.end)
	return o
}

// end has the writers end their last transaction.
func (o *oracle) end() {
	o.rest(false)
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.writers.Wait()
}

// rest keeps writers from beginning transactions, or has them go on.
func (o *oracle) rest(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.open:
		if on {
			o.open = make(chan struct{})
		}
	default:
		if !on {
			close(o.open)
		}
	}
}

func (o *oracle) mayBegin() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

// writer changes rows on a connection of its own, over and over again.
type writer struct {
	o        *oracle
	rng      *rand.Rand
	conn     *pgx.Conn
	prepared string // a transaction that is to be committed, if it is there
}

func (w *writer) run() {
	ctx := context.Background()
	defer func() {
		if w.conn != nil {
			_ = w.conn.Close(ctx)
		}
	}()
	var until time.Time // what is prepared is to be committed, unless the server is gone for good
	for {
		stopping := false
		select {
		case <-w.o.stop:
			stopping = true
			if until.IsZero() {
				until = time.Now().Add(patience)
			}
		case <-w.o.mayBegin():
		}
		if stopping && (w.prepared == "" || time.Now().After(until)) {
			return
		}
		if w.connect(ctx) != nil || w.finish(ctx) != nil {
			time.Sleep(10 * time.Millisecond) // between two tries to connect: nobody says when the server is back
			continue
		}
		if !stopping && w.transaction(ctx) == nil {
			w.o.commits.Add(1)
		}
	}
}

func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w.conn, err = pgx.Connect(ctx, w.o.dsn)
	return err
}

// finish commits the transaction that was prepared. It may have been already, and the answer was lost; or it never came to be prepared.
func (w *writer) finish(ctx context.Context) error {
	if w.prepared == "" {
		return nil
	}
	_, err := w.conn.Exec(ctx, "COMMIT PREPARED '"+w.prepared+"'")
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42704" {
		err = nil
	}
	if err == nil {
		w.prepared = ""
	}
	return err
}

// transaction changes some rows at some isolation level, perhaps within a savepoint, stays open for a while, and may roll back, or
// be prepared first.
func (w *writer) transaction(ctx context.Context) error {
	level := []string{"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[w.rng.IntN(4)]
	if _, err := w.conn.Exec(ctx, "BEGIN ISOLATION LEVEL "+level); err != nil {
		return err
	}
	if w.rng.IntN(3) == 0 {
		_, _ = w.conn.Exec(ctx, "SET LOCAL synchronous_commit = off")
	}
	err := w.change(ctx)
	if w.rng.IntN(20) == 0 {
		time.Sleep(time.Duration(w.rng.IntN(200)) * time.Millisecond) // a transaction that stays open is a part of the load
	}
	switch {
	case err == nil && w.rng.IntN(8) == 0:
		err = errors.New("rolled back")
	case err == nil && w.rng.IntN(8) == 0:
		w.prepared = fmt.Sprintf("oracle-%d", w.rng.Uint64())
		if _, err = w.conn.Exec(ctx, "PREPARE TRANSACTION '"+w.prepared+"'"); err == nil {
			time.Sleep(time.Duration(w.rng.IntN(50)) * time.Millisecond) // so is one that stays prepared
			return w.finish(ctx)
		}
		var refused *pgconn.PgError // one that has rung the bell cannot be prepared
		if errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR" {
			w.prepared = ""
		}
	}
	if err != nil {
		_, _ = w.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	_, err = w.conn.Exec(ctx, "COMMIT")
	return err
}

// change changes up to three rows, and publishes what it has done.
func (w *writer) change(ctx context.Context) error {
	var txn string
	if err := w.conn.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&txn); err != nil {
		return err
	}
	rows := w.rng.Perm(oracleRows)[:1+w.rng.IntN(3)]
	for i, row := range rows {
		if w.rng.IntN(4) == 0 { // what is rolled back is as if it had never been
			const lost = `SAVEPOINT s; UPDATE rows SET version = version + 1 WHERE row = %d; SELECT pghub.publish('rows', %[1]d, '"lost"'); ROLLBACK TO s`
			if _, err := w.conn.Exec(ctx, fmt.Sprintf(lost, row+1)); err != nil {
				return err
			}
		}
		if w.rng.IntN(4) == 0 {
			if _, err := w.conn.Exec(ctx, "SAVEPOINT sub"); err != nil {
				return err
			}
		}
		var version int64
		if err := w.conn.QueryRow(ctx, "UPDATE rows SET version = version + 1 WHERE row = $1 RETURNING version", row+1).Scan(&version); err != nil {
			return err
		}
		c := change{Row: int64(row + 1), Version: version, Txn: txn, Part: i + 1, Parts: len(rows)}
		if _, err := w.conn.Exec(ctx, "SELECT pghub.publish('rows', $1::bigint, $2::text)", row+1, encode(c)); err != nil {
			return err
		}
	}
	return nil
}

// oraclePatience is for what is left to be delivered when all faults are over.
const oraclePatience = 4 * time.Minute

// check compares what was delivered with what was committed, once all of it has been. What rotation has dropped meanwhile is not
// replayed, and the consumers have it.
func (o *oracle) check(pool *pgxpool.Pool, s *stream.Stream) {
	t := o.t
	count := func(query string) (n int64) {
		_ = pool.QueryRow(t.Context(), query).Scan(&n)
		return n
	}
	list := func(query string) []change {
		rows, err := pool.Query(t.Context(), query)
		require.NoError(t, err)
		changes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
		require.NoError(t, err)
		return changes
	}
	var committed int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT sum(version) FROM rows`).Scan(&committed))
	require.Eventually(t, func() bool {
		return count(`SELECT count(*) FROM ledger`) == committed && count(`SELECT count(*) FROM (SELECT DISTINCT row, version FROM got) AS g`) == committed
	}, oraclePatience, 50*time.Millisecond, "everything is delivered to both consumers")

	order := list(`SELECT row, version, txn, part, parts FROM ledger ORDER BY n`) // DurableTx: each once, as the table's key has it
	next := make(map[int64]int64)
	for i, c := range order {
		next[c.Row]++
		require.Equal(t, next[c.Row], c.Version, "a row goes backwards, or has a gap: event %d, %+v", i, c)
		require.LessOrEqual(t, c.Part, c.Parts)
		if c.Part > 1 {
			require.Equal(t, order[i-1].Txn, c.Txn, "a transaction is torn: event %d", i)
			require.Equal(t, order[i-1].Part+1, c.Part)
		}
		if i+1 < len(order) && c.Part < c.Parts {
			require.Equal(t, c.Txn, order[i+1].Txn, "a transaction is torn: event %d", i)
		}
	}
	first := list(`SELECT row, version, txn, part, parts FROM (SELECT DISTINCT ON (row, version) * FROM got ORDER BY row, version, n) AS g ORDER BY n`)
	require.Equal(t, order, first, "Durable: in the order of the stream, but for what comes again")

	replayed := 0
	for range 2 { // the same at each replay
		var again []change
		for ev, err := range s.Read(t.Context(), stream.Earliest) {
			require.NoError(t, err)
			c, err := pghub.Decode[change](ev)
			require.NoError(t, err)
			again = append(again, c)
		}
		replayed = len(again)
		require.NotZero(t, replayed)
		require.LessOrEqual(t, replayed, len(order))
		require.Equal(t, order[len(order)-replayed:], again)
	}
	t.Logf("%d commits, %d events, %d of them delivered more than once by Durable, %d replayed",
		o.commits.Load(), committed, count(`SELECT count(*) FROM got`)-committed, replayed)
}
