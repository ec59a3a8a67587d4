package main

import (
	"context"
	"encoding/binary"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// receiver listens to topics on a connection of its own.
type receiver interface {
	// receive returns when all events have come.
	receive(ctx context.Context) (window, error)
	close()
}

// window is the time from the first event to the last.
type window struct {
	first, last time.Time
	lost        int // events that were dropped on the way
}

// newReceiver connects, for n events, and returns when all topics are listened to, in this order.
type newReceiver func(ctx context.Context, dsn string, topics []string, n int) (receiver, error)

// bareReceiver reads the socket and counts messages by their headers: as fast as the server and the kernel can go.
type bareReceiver struct {
	conn net.Conn
	n    int
}

func newBareReceiver(ctx context.Context, dsn string, topics []string, n int) (receiver, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := listenBare(ctx, cfg, topics)
	if err != nil {
		return nil, err
	}
	return &bareReceiver{conn, n}, nil
}

// listenBare returns the socket of a connection that listens.
func listenBare(ctx context.Context, cfg *pgconn.Config, topics []string) (net.Conn, error) {
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, listenSQL(topics)).ReadAll(); err != nil {
		return nil, err
	}
	if err := conn.SyncConn(ctx); err != nil { // after a slow write pgconn may be reading still
		return nil, err
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return hijacked.Conn, nil
}

func (b *bareReceiver) receive(ctx context.Context) (win window, err error) {
	stop := context.AfterFunc(ctx, func() { _ = b.conn.SetReadDeadline(time.Now()) })
	defer stop()
	const header = 5
	buf := make([]byte, 64<<10)
	filled := 0
	for seen := 0; seen < b.n; {
		got, err := b.conn.Read(buf[filled:])
		if err != nil {
			return win, err
		}
		filled += got
		if seen == 0 {
			win.first = time.Now()
		}
		at := 0
		for filled-at >= header {
			next := at + 1 + int(binary.BigEndian.Uint32(buf[at+1:]))
			if next > filled {
				break
			}
			if buf[at] == 'A' {
				seen++
			}
			at = next
		}
		filled = copy(buf, buf[at:filled])
	}
	win.last = time.Now()
	return win, nil
}

func (b *bareReceiver) close() { _ = b.conn.Close() }

// pgxReceiver waits for one notification after another, with a context that can be cancelled, as any program that is to
// end some day must.
type pgxReceiver struct {
	conn *pgx.Conn
	n    int
}

func newPgxReceiver(ctx context.Context, dsn string, topics []string, n int) (receiver, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, listenSQL(topics)); err != nil {
		return nil, err
	}
	return &pgxReceiver{conn, n}, nil
}

func (p *pgxReceiver) receive(ctx context.Context) (win window, err error) {
	for i := range p.n {
		if _, err := p.conn.WaitForNotification(ctx); err != nil {
			return win, err
		}
		if i == 0 {
			win.first = time.Now()
		}
	}
	win.last = time.Now()
	return win, nil
}

func (p *pgxReceiver) close() { _ = p.conn.Close(context.Background()) }

// listenSQL is one simple query.
func listenSQL(topics []string) string {
	var sql []byte
	for _, topic := range topics {
		sql = append(sql, "LISTEN "...)
		sql = append(sql, pgx.Identifier{topic}.Sanitize()...)
		sql = append(sql, ';')
	}
	return string(sql)
}
