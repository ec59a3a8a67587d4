package pghub

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// clusterGate lets so many processes at a time call Resync: those that hold one of as many advisory locks. A process has one
// lock for all of its consumers, in a transaction on a connection of the pool: so it works through any pooler, and a process that
// dies leaves nothing behind. It is a brake and no fence: a lock that is lost with its connection ends no Resync.
type clusterGate struct {
	pool     *pgxpool.Pool
	patience time.Duration // for a connection of the pool
	key      int32         // of the hubs that share the places
	limit    int

	owner chan struct{} // has room for who owns what follows
	users int           // calls of Resync that share the lock
	conn  *pgxpool.Conn // of the lock, while there are users
}

func newClusterGate(cfg *Config) *clusterGate {
	name := fnv.New32a()
	_, _ = name.Write([]byte("pghub resync " + cfg.Name))
	return &clusterGate{
		pool: cfg.Pool, patience: cfg.PublishTimeout, key: int32(name.Sum32()), limit: cfg.ResyncClusterLimit,
		owner: make(chan struct{}, 1),
	}
}

// enter waits for a lock, unless this process has one. The error says why there is none; else leave has to be called.
func (g *clusterGate) enter(ctx context.Context) error {
	select {
	case g.owner <- struct{}{}:
		defer func() { <-g.owner }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.users == 0 {
		if err := g.lock(ctx); err != nil {
			return fmt.Errorf("the limit of the cluster is not kept: %w", err)
		}
	}
	g.users++
	return nil
}

// leave gives the lock back if no other call of this process uses it.
func (g *clusterGate) leave() {
	g.owner <- struct{}{}
	defer func() { <-g.owner }()
	if g.users--; g.users > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.patience)
	defer cancel()
	_, _ = g.conn.Exec(ctx, `ROLLBACK`) // else the pool closes the connection, which ends the lock too
	g.conn.Release()
	g.conn = nil
}

// lock takes the first lock that is free, or waits for any. Nothing may end the transaction while a Resync takes its time.
func (g *clusterGate) lock(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	conn, err := g.pool.Acquire(soon)
	if err != nil {
		return err
	}
	const begin = `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;
		SET LOCAL idle_in_transaction_session_timeout = 0;
		SELECT CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL THEN pg_catalog.set_config('transaction_timeout', '0', true) END`
	const try = `SELECT n FROM pg_catalog.unnest($2::pg_catalog.int4[]) AS n WHERE pg_catalog.pg_try_advisory_xact_lock($1, n) LIMIT 1`
	places := make([]int32, g.limit)
	for place, n := range rand.Perm(g.limit) {
		places[place] = int32(n)
	}
	if _, err = conn.Exec(soon, begin, pgx.QueryExecModeSimpleProtocol); err == nil {
		var n int32
		if err = conn.QueryRow(soon, try, g.key, places).Scan(&n); err == pgx.ErrNoRows {
			_, err = conn.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1, $2)`, g.key, places[0])
		}
	}
	if err != nil {
		_, _ = conn.Exec(soon, `ROLLBACK`)
		conn.Release()
		return err
	}
	g.conn = conn
	return nil
}
