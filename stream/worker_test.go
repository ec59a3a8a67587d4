package stream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/stream"
)

// A worker is a process of its own: this test binary, started with a DSN in workerEnv. It works for two consumers, and is killed; it
// also kills itself at random, unless calmEnv is set.
const (
	workerEnv = "PGHUB_STREAM_WORKER"
	calmEnv   = "PGHUB_STREAM_WORKER_CALM"
)

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
	*stream.QuietTime = 20 * time.Millisecond // it falls asleep whenever writers pause
	pool, err := pgxpool.New(ctx, dsn)
	fail(err)
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: 5 * time.Millisecond, ReconnectMax: 100 * time.Millisecond})
	fail(err)
	var s *stream.Stream
	for { // the server may be down just now
		if s, err = stream.Open(ctx, hub, stream.Config{Lease: workerLease}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond) // between two tries: nobody says when the server is back
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
			_, err = s.Durable(ctx, "once", func(ctx context.Context, ev *pghub.Event) error {
				err := insert(ctx, pool, "got", ev)
				dieSometimes()
				return err
			}, cfg)
		} else {
			_, err = s.DurableTx(ctx, "exactly", func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
				if rand.IntN(2) == 0 { // a crash may take it back, together with the position
					if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
						return err
					}
				}
				for _, ev := range events {
					if err := insert(ctx, tx, "ledger", ev); err != nil {
						return err
					}
				}
				dieSometimes()
				return nil
			}, cfg)
		}
		if err == nil {
			begun++
		} else {
			time.Sleep(50 * time.Millisecond) // between two tries
		}
	}
	fail(hub.Run(ctx))
}

// dieSometimes ends the process between the work and its acknowledgement.
func dieSometimes() {
	if os.Getenv(calmEnv) == "" && rand.IntN(300) == 0 {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		select {}
	}
}

// workers are processes that work, each of which is started again when it dies.
type workers struct {
	t       *testing.T
	proxies []*faultproxy.Proxy // the way of each to the server
	dsns    []string            // through these
	all     sync.WaitGroup
	quit    chan struct{}

	mu    sync.Mutex
	live  []*exec.Cmd
	ended int  // of these, how often one died
	still bool // those that are started from now on do not kill themselves
}

func newWorkers(t *testing.T, dsn string, n int) *workers {
	t.Helper()
	w := &workers{t: t, quit: make(chan struct{}), live: make([]*exec.Cmd, n)}
	for range n {
		p, through := throughProxy(t, dsn)
		w.proxies, w.dsns = append(w.proxies, p), append(w.dsns, through)
	}
	for i := range n {
		w.all.Go(func() { w.keep(i) })
	}
	t.Cleanup(func() {
		close(w.quit)
		for i := range n {
			w.kill(i)
		}
		w.all.Wait()
	})
	return w
}

// keep has one worker running until the end.
func (w *workers) keep(i int) {
	for {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerEnv+"="+w.dsns[i])
		cmd.Stderr = os.Stderr
		w.mu.Lock()
		if w.still {
			cmd.Env = append(cmd.Env, calmEnv+"=1")
		}
		select {
		case <-w.quit:
			w.mu.Unlock()
			return
		default:
		}
		err := cmd.Start()
		if err == nil {
			w.live[i] = cmd
		}
		w.mu.Unlock()
		if err != nil {
			w.t.Error(err)
			return
		}
		_ = cmd.Wait()
		w.mu.Lock()
		w.ended++
		w.mu.Unlock()
	}
}

// freeze stops a worker, and returns what has it go on. It may have ended, and another one be in its place. Cleanup kills the frozen too.
func (w *workers) freeze(i int) (thaw func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cmd := w.live[i]
	if cmd == nil {
		return func() {}
	}
	_ = cmd.Process.Signal(pgtest.Freeze)
	return func() { _ = cmd.Process.Signal(pgtest.Thaw) }
}

func (w *workers) kill(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cmd := w.live[i]; cmd != nil {
		_ = cmd.Process.Kill()
	}
}

// calm kills all for the last time.
func (w *workers) calm() {
	w.mu.Lock()
	w.still = true
	w.mu.Unlock()
	for i := range w.live {
		w.kill(i)
	}
}

// find returns the worker that a lease names as its owner, else any.
func (w *workers) find(owner string) (i int, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, cmd := range w.live {
		if cmd != nil && strings.Contains(owner, fmt.Sprintf(":%d:", cmd.Process.Pid)) {
			return i, true
		}
	}
	return rand.IntN(len(w.live)), false
}

func (w *workers) deaths() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
