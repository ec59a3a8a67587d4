package pghub

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pooled is the publisher's view of a pool. Statements go in whatever query mode that is configured for.
type pooled struct{ pool *pgxpool.Pool }

func (p pooled) acquire(ctx context.Context) (publishConn, error) {
	conn, err := p.pool.Acquire(ctx)
	return pooledConn{conn}, err
}

// resetIdle leaves a pool alone that has no idle connection: then it is busy, or it is connecting, slowly, and would have to
// begin anew.
func (p pooled) resetIdle() {
	if p.pool.Stat().IdleConns() > 0 {
		p.pool.Reset()
	}
}

func (p pooled) reset() { p.pool.Reset() }

type pooledConn struct{ *pgxpool.Conn }

func (c pooledConn) release() { c.Release() }

func (c pooledConn) notify(ctx context.Context, calls []*call) (err error) {
	utf8 := takesUTF8(c.Conn.Conn())
	if len(calls) == 1 && utf8 {
		_, err = c.Exec(ctx, notifySQL, calls[0].topic, calls[0].payload)
		return err
	}
	topics, payloads := textsOf(calls)
	if utf8 {
		_, err = c.Exec(ctx, notifyManySQL, topics, payloads)
	} else {
		_, err = c.Exec(ctx, notifyConvertedSQL, pgx.QueryExecModeExec, inBytes(topics...), inBytes(payloads...))
	}
	return err
}

func textsOf(calls []*call) (topics, payloads []string) {
	topics, payloads = make([]string, len(calls)), make([]string, len(calls))
	for i, c := range calls {
		topics[i], payloads[i] = c.topic, c.payload
	}
	return topics, payloads
}

// Names are qualified: whatever the search path of a connection finds, these are those of the system. (unnest of several
// arrays at once cannot be.)
const (
	notifySQL     = `SELECT pg_catalog.pg_notify($1, $2)`
	notifyManySQL = `SELECT pg_catalog.count(pg_catalog.pg_notify(t, p)) ` +
		`FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS n(t, p)`
	notifyConvertedSQL = `SELECT pg_catalog.count(pg_catalog.pg_notify(pg_catalog.convert_from(t, 'UTF8'), pg_catalog.convert_from(p, 'UTF8'))) ` +
		`FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.bytea[]), pg_catalog.unnest($2::pg_catalog.bytea[])) AS n(t, p)`
)

// takesUTF8 tells whether the server takes text on a connection as UTF-8. Unless told otherwise, it takes it to be in the
// encoding of the database, and turns é into Ã© where that is LATIN1.
func takesUTF8(conn *pgx.Conn) bool {
	encoding := conn.PgConn().ParameterStatus("client_encoding")
	return encoding == "UTF8" || encoding == "" // a pooler may not say
}

func inBytes(texts ...string) [][]byte {
	b := make([][]byte, len(texts))
	for i, text := range texts {
		b[i] = []byte(text)
	}
	return b
}
