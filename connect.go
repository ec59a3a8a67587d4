package pghub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/internal/source"
)

// listener is the source of a hub that listens itself: each of its sessions is a connection to the server.
type listener struct {
	cfg    *Config
	report *reporter
}

// Open connects.
func (l *listener) Open(ctx context.Context) (source.Session, error) {
	conn, err := connect(ctx, l.cfg)
	if err != nil {
		return nil, err
	}
	return newSession(conn, l.cfg, l.report), nil
}

// link is a listener connection that has been checked and is ready for LISTEN.
type link struct {
	conn net.Conn
	peer source.Peer
}

// Peer is the server.
func (l *link) Peer() source.Peer { return l.peer }

// connect opens the listener connection and makes sure that it can hear. It returns soon after ctx has ended even if code of
// the user's on the way (a DialFunc, a LookupFunc, BeforeConnect) pays no heed to that, and takes a panic of such code for a
// failure: connecting has a goroutine of its own, which is left behind then and closes what it still comes to.
func connect(ctx context.Context, cfg *Config) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	type outcome struct {
		link *link
		err  error
	}
	opened, leftBehind := make(chan outcome), make(chan struct{})
	go func() {
		o := outcome{err: thrown("while connecting", nil)} // unless open returns
		defer func() {
			if v := recover(); v != nil {
				o.err = fmt.Errorf("%w\n%s", thrown("while connecting", v), debug.Stack())
			}
			if errors.Is(o.err, ErrPanic) {
				o.err = fmt.Errorf("pghub: %w: %w", ErrNotConnected, o.err)
			}
			select {
			case opened <- o:
			case <-leftBehind:
				if o.link != nil {
					_ = o.link.conn.Close() // nobody wants it
				}
			}
		}()
		o.link, o.err = open(ctx, cfg)
	}()

	select {
	case o := <-opened:
		return o.link, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(connectGrace)
	defer grace.Stop()
	select {
	case o := <-opened: // it knows best what it was waiting for
		return o.link, o.err
	case <-grace.C:
		close(leftBehind)
		return nil, fmt.Errorf("pghub: %w: %w", ErrNotConnected, ctx.Err())
	}
}

// open opens the listener connection and makes sure that it can hear: a server that is writable, and nothing in between
// that swallows notifications.
func open(ctx context.Context, cfg *Config) (*link, error) {
	connCfg, err := listenerConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("pghub: connect: %w", err)
	}
	var heard string // the channel of a notification that came
	connCfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { heard = n.Channel }
	conn, err := pgconn.ConnectConfig(ctx, &connCfg.Config)
	if err != nil {
		return nil, fmt.Errorf("pghub: %w: %w", ErrNotConnected, err)
	}
	l, err := checked(ctx, conn, connCfg, cfg, &heard)
	if err != nil {
		_ = conn.Close(ctx) // the reason to give up is err
		return nil, err
	}
	return l, nil
}

func checked(ctx context.Context, conn *pgconn.PgConn, connCfg *pgx.ConnConfig, cfg *Config, heard *string) (*link, error) {
	soon, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	standby, pid, err := inspect(soon, conn, connCfg.RuntimeParams)
	if err != nil {
		return nil, fmt.Errorf("pghub: %w: %w", ErrNotConnected, err)
	}
	if standby {
		return nil, fmt.Errorf("pghub: %w: %s; with all hosts in the DSN and target_session_attrs=read-write the primary is found", ErrStandby, conn.Conn().RemoteAddr())
	}
	if pid != conn.PID() { // not the server itself has answered the connection request
		if err := hears(ctx, conn, connCfg, cfg, heard); err != nil {
			return nil, err
		}
	}
	return hijack(ctx, conn)
}

// listenerConfig is the configuration of the listener connection.
func listenerConfig(ctx context.Context, cfg *Config) (*pgx.ConnConfig, error) {
	var connCfg *pgx.ConnConfig
	if cfg.ListenConfig != nil {
		connCfg = cfg.ListenConfig.Copy()
	} else {
		poolCfg := cfg.Pool.Config()
		connCfg = poolCfg.ConnConfig
		if poolCfg.BeforeConnect != nil {
			ctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			if err := poolCfg.BeforeConnect(ctx, connCfg); err != nil {
				return nil, fmt.Errorf("%w: BeforeConnect: %w", ErrNotConnected, err)
			}
		}
	}
	name := applicationName
	if cfg.Name != "" {
		name += ":" + cfg.Name
	}
	if connCfg.RuntimeParams == nil {
		connCfg.RuntimeParams = make(map[string]string)
	}
	connCfg.RuntimeParams["application_name"] = name[:min(len(name), maxApplicationName)]
	// Payloads are UTF-8 here; the server converts them from the encoding of the database.
	connCfg.RuntimeParams["client_encoding"] = "UTF8"
	if connCfg.ConnectTimeout == 0 {
		connCfg.ConnectTimeout = connectTimeout // a host that does not answer must not keep the others from being tried
	}
	return connCfg, nil
}

// inspect asks the server what it is, and when to end the connection.
func inspect(ctx context.Context, conn *pgconn.PgConn, params map[string]string) (standby bool, pid uint32, err error) {
	sql := `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid(), ` + pgwire.Settings(params)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return false, 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return false, 0, errors.New("the server's answer makes no sense")
	}
	row := results[0].Rows[0]
	p, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return false, 0, fmt.Errorf("the server's process ID makes no sense: %w", err)
	}
	return string(row[0]) == "t", uint32(p), nil
}

// hears makes sure that notifications come through a pooler. A notification that a connection sends to itself comes
// through always; so another connection sends it, while this one is idle and a pooler in transaction mode has lent the
// server connection that listens to somebody else.
func hears(ctx context.Context, conn *pgconn.PgConn, connCfg *pgx.ConnConfig, cfg *Config, heard *string) error {
	channel := "pghub_probe_" + strings.ToLower(rand.Text())
	fail := func(err error) error { return fmt.Errorf("pghub: %w: behind a pooler: %w", ErrNotConnected, err) }
	senderCfg := connCfg.Copy()
	senderCfg.OnNotification = nil // what the sender hears of itself proves nothing
	sender, err := pgconn.ConnectConfig(ctx, &senderCfg.Config)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+cfg.ProbeTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `LISTEN `+channel).ReadAll(); err != nil {
		_ = sender.Close(ctx)
		return fail(err)
	}
	_, err = sender.Exec(ctx, `NOTIFY `+channel).ReadAll()
	_ = sender.Close(ctx)
	if err != nil {
		return fail(err)
	}
	waitCtx, cancel := context.WithTimeout(ctx, cfg.ProbeTimeout)
	defer cancel()
	for *heard != channel {
		if err := conn.WaitForNotification(waitCtx); err != nil {
			if ctx.Err() == nil && waitCtx.Err() != nil {
				return fmt.Errorf("pghub: %w: no notification came through %s within %v; connect to the server itself with Config.ListenConfig, or use session pooling",
					ErrPooler, conn.Conn().RemoteAddr(), cfg.ProbeTimeout)
			}
			return fail(err)
		}
	}
	if _, err := conn.Exec(ctx, `UNLISTEN `+channel).ReadAll(); err != nil {
		return fail(err)
	}
	return nil
}

// hijack takes the socket out of pgconn's hands, with nothing read ahead and, after a slow write, nobody else reading it.
func hijack(ctx context.Context, conn *pgconn.PgConn) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := conn.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("pghub: %w: %w", ErrNotConnected, err)
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("pghub: %w: %w", ErrNotConnected, err)
	}
	peer := source.Peer{Server: h.Conn.RemoteAddr().String(), PID: h.PID, Version: h.ParameterStatuses["server_version"]}
	return &link{conn: h.Conn, peer: peer}, nil
}

// hopeless tells errors that waiting does not mend from a server that is not there, not ready, or full.
func hopeless(err error) bool {
	var pgErr *pgconn.PgError
	var refused *ListenError
	switch {
	case errors.Is(err, ErrPooler):
		return true
	case errors.As(err, &refused) && errors.As(refused.Err, &pgErr):
		switch pgErr.Code[:min(2, len(pgErr.Code))] {
		case "42", "22", "0A", "28": // a name or a privilege, as opposed to resources and cancellations
			return true
		}
		return false
	case errors.As(err, &pgErr):
		switch class := pgErr.Code[:min(2, len(pgErr.Code))]; {
		case class == "28", class == "3D", pgErr.Code == "42501": // authorization, no such database, no privilege
			return true
		}
	}
	return false
}
