package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub/internal/pgwire"
)

// link is the stream's own connection. It hears of ticks that other processes make, and makes them itself while it has the
// sequencer's lease. One goroutine works on it, and connects again when it is lost.
type link struct {
	s    *Stream
	conn *pgx.Conn

	leading atomic.Bool
	ticks   atomic.Uint64 // made here
	sleeps  atomic.Uint64
	lost    atomic.Uint64 // connections
	pid     atomic.Uint32

	late int // ticks that took too long, one after another; owned by the goroutine
}

// The channels of schema pghub.
const (
	channelStream = "pghub.stream"
	channelBell   = "pghub.bell"
)

// patience is how long a query on the link may take. All of them are short.
func (l *link) patience() time.Duration { return max(l.s.cfg.Lease, 10*time.Second) }

func (l *link) run() {
	failures := 0
	for l.s.ctx.Err() == nil {
		began := time.Now()
		err := l.session(l.s.ctx)
		if l.s.ctx.Err() != nil {
			return
		}
		l.lost.Add(1)
		if time.Since(began) > time.Minute {
			failures = 0
		}
		l.s.trouble("connection", fmt.Errorf("the stream's connection is lost: %w", err))
		select {
		case <-time.After(l.s.host.Backoff(failures)):
		case <-l.s.ctx.Done():
		}
		failures++
	}
}

// session is the life of one connection.
func (l *link) session(ctx context.Context) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	l.pid.Store(l.conn.PgConn().PID())
	defer func() {
		l.pid.Store(0)
		l.leading.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if !l.conn.IsClosed() {
			_, _ = l.conn.Exec(ctx, `SELECT pghub.resign('sequencer', $1)`, l.s.owner) // else the lease ends by itself
			l.tell(ctx, "free")
		}
		_ = l.conn.Close(ctx)
	}()
	// What happened while nobody listened is looked for now.
	l.s.bus.tick()
	l.s.bus.changeAll()
	for {
		leads, err := l.lead(ctx)
		if err == nil && leads {
			err = l.sequence(ctx)
		}
		if err == nil {
			err = l.follow(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg, err := l.s.host.ConnConfig(ctx)
	if err != nil {
		return err
	}
	name := cfg.RuntimeParams["application_name"] + " stream"
	cfg.RuntimeParams["application_name"] = name[:min(len(name), 63)]
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	if l.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return err
	}
	setUp := `SELECT ` + pgwire.Settings(cfg.RuntimeParams) + `; SET lock_timeout = 0; SET statement_timeout = 0; SET synchronous_commit = on; LISTEN "` + channelStream + `"; LISTEN "` + channelBell + `"`
	if _, err = l.conn.PgConn().Exec(ctx, setUp).ReadAll(); err != nil {
		_ = l.conn.Close(ctx)
		return err
	}
	return nil
}

// lead tries to get, or to keep, the sequencer's lease.
func (l *link) lead(ctx context.Context) (leads bool, err error) {
	err = l.ask(ctx, &leads, `SELECT pghub.lead('sequencer', $1, $2) WHERE NOT pg_catalog.pg_is_in_recovery()`, l.s.owner, l.s.cfg.Lease)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errors.New("the server is a standby")
	}
	if leads != l.leading.Swap(leads) && leads {
		l.s.log(slog.LevelInfo, "sequencer", "this process is the sequencer")
	}
	return leads, err
}

// ask runs a query of one row and one column. A server that does not answer in time counts as lost.
func (l *link) ask(ctx context.Context, answer any, sql string, args ...any) error {
	return l.askFor(ctx, l.patience(), answer, sql, args...)
}

func (l *link) askFor(ctx context.Context, patience time.Duration, answer any, sql string, args ...any) error {
	ctx, cancel := finishing(ctx, patience)
	defer cancel()
	if err := l.conn.QueryRow(ctx, sql, args...).Scan(answer); err != nil {
		return fmt.Errorf("%.40s: %w", sql, err)
	}
	return nil
}

// finishTime is for how long a query may go on when the stream ends. A test makes it longer.
var finishTime = time.Second

// finishing is a context for a query. One that is under way when the stream ends is finished: if it were cut off, the connection
// would be lost, and with it the way to give up the lease, so that others had to wait for its end.
func finishing(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	query, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	limit := finishTime
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(limit, cancel) })
	return query, func() {
		stop()
		cancel()
	}
}

// follow waits for ticks of another sequencer, until it is time to try for the lease, or it is given up.
func (l *link) follow(ctx context.Context) error {
	until := time.Now().Add(l.s.cfg.Lease / 2)
	for {
		n, err := l.hear(ctx, time.Until(until))
		if err != nil || n == nil {
			return err
		}
		if l.heard(n) == "free" {
			return nil
		}
	}
}

// hear waits for a notification for at most d. nil: none came.
func (l *link) hear(ctx context.Context, d time.Duration) (*pgconn.Notification, error) {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	n, err := l.conn.WaitForNotification(wait)
	if err != nil && ctx.Err() == nil && wait.Err() != nil && !l.conn.IsClosed() {
		return nil, nil
	}
	return n, err
}

// overheard does what notifications ask for that came with the answers to queries.
func (l *link) overheard() {
	for {
		n, err := l.conn.WaitForNotification(past)
		if err != nil {
			return // there is none
		}
		l.heard(n)
	}
}

// past is a context that has ended: nothing waits with it.
var past = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// heard does what a notification asks for, and says what it was.
func (l *link) heard(n *pgconn.Notification) (what string) {
	if n.Channel != channelStream {
		return n.Channel
	}
	what, name, _ := strings.Cut(n.Payload, " ")
	switch {
	case what == "tick":
		if n.PID != l.conn.PgConn().PID() { // readers know of the ticks that are made here, and would find nothing
			l.s.bus.tick()
		}
	case name != "": // free or again
		l.s.bus.change(name)
		return ""
	}
	return what
}

// tell notifies the other processes, in a transaction of its own. Its commit writes nothing that a server would flush.
func (l *link) tell(ctx context.Context, what string) {
	ctx, cancel := finishing(ctx, l.patience())
	defer cancel()
	const sql = `NOTIFY "` + channelStream + `", '%s'`
	_, _ = l.conn.PgConn().Exec(ctx, fmt.Sprintf(sql, what)).ReadAll() // a lost connection shows with the next query
}
