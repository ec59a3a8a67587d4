package pghub

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// unsentError is an error from before anything was sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// sendThrough sends statements through a connection of the pool, in whatever query mode the pool is configured for.
func sendThrough(pool *pgxpool.Pool) func(ctx context.Context, topics, payloads []string) error {
	return func(ctx context.Context, topics, payloads []string) error {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return &unsentError{err}
		}
		defer conn.Release()
		switch utf8 := takesUTF8(conn.Conn()); {
		case utf8 && len(topics) == 1:
			_, err = conn.Exec(ctx, notifySQL, topics[0], payloads[0])
		case utf8:
			_, err = conn.Exec(ctx, notifyManySQL, topics, payloads)
		default:
			_, err = conn.Exec(ctx, notifyConvertedSQL, inBytes(topics...), inBytes(payloads...))
		}
		return err
	}
}

const (
	notifySQL          = `SELECT pg_notify($1, $2)`
	notifyManySQL      = `SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p)`
	notifyConvertedSQL = `SELECT count(pg_notify(convert_from(t, 'UTF8'), convert_from(p, 'UTF8'))) FROM unnest($1::bytea[], $2::bytea[]) AS n(t, p)`
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
