package stream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// A worker is a process of its own: this test binary, started with a DSN in workerEnv. It works for two consumers, and is killed.
const workerEnv = "PGHUB_STREAM_WORKER"

// change is what an event of the oracle says: the version of a row that a transaction made, and its place in that.
type change struct {
	Row, Version int64
	Txn          string
	Part, Parts  int
}

const workerLease = 300 * time.Millisecond

// work never returns. Durable notes what it got on a connection of its own; DurableTx in the transaction that it is given.
func work(dsn string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	pool, err := pgxpool.New(ctx, dsn)
	fail(err)
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: 5 * time.Millisecond, ReconnectMax: 100 * time.Millisecond})
	fail(err)
	var s *stream.Stream
	for { // the server may be down just now
		if s, err = stream.Open(ctx, hub, stream.Config{Lease: workerLease}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		hub, err = pghub.New(pghub.Config{Pool: pool, ReconnectMin: 5 * time.Millisecond, ReconnectMax: 100 * time.Millisecond})
		fail(err)
	}
	insert := func(ctx context.Context, tx interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, table string, ev *pghub.Event,
	) error {
		c, err := pghub.Decode[change](ev)
		if err != nil {
			return err
		}
		var n int64
		return tx.QueryRow(ctx, `INSERT INTO `+table+` (row, version, txn, part, parts) VALUES ($1, $2, $3, $4, $5) RETURNING n`,
			c.Row, c.Version, c.Txn, c.Part, c.Parts).Scan(&n)
	}
	cfg := &stream.DurableConfig{RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond, MaxAttempts: -1, Batch: 20}
	for begun := 0; begun < 2; {
		if begun == 0 {
			_, err = s.Durable(ctx, "once", func(ctx context.Context, ev *pghub.Event) error { return insert(ctx, pool, "got", ev) }, cfg)
		} else {
			_, err = s.DurableTx(ctx, "exactly", func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
				for _, ev := range events {
					if err := insert(ctx, tx, "ledger", ev); err != nil {
						return err
					}
				}
				return nil
			}, cfg)
		}
		if err == nil {
			begun++
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	fmt.Println("working")
	fail(hub.Run(ctx))
}

// startWorker starts a worker and returns when it works.
func startWorker(t *testing.T, dsn string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
		}
	}()
	return cmd
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
