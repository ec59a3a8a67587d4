package sql

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a database with pghub in it, a connection that writes and one that listens.
type bench struct {
	t      testing.TB
	dsn    string
	conn   *pgx.Conn
	ear    *pgx.Conn
	topics []string
	marks  int
}

// setUp installs pghub in a fresh database and listens to the topics.
func setUp(t testing.TB, topics ...string) *bench {
	t.Helper()
	b := &bench{t: t, dsn: pgtest.Database(t), topics: topics}
	b.conn = pgtest.Conn(t, b.dsn)
	b.ear = pgtest.Conn(t, b.dsn)
	require.NoError(t, Install(t.Context(), b.conn))
	for _, topic := range append(topics, "mark") {
		_, err := b.ear.Exec(t.Context(), "LISTEN "+pgx.Identifier{topic}.Sanitize())
		require.NoError(t, err)
	}
	return b
}

// do runs one or more statements.
func (b *bench) do(sql string, args ...any) {
	b.t.Helper()
	_, err := b.conn.Exec(b.t.Context(), sql, args...)
	require.NoError(b.t, err, sql)
}

// fails runs a statement that must fail with this SQLSTATE and a message that contains text.
func (b *bench) fails(code, text, sql string, args ...any) *pgconn.PgError {
	b.t.Helper()
	_, err := b.conn.Exec(b.t.Context(), sql, args...)
	var pgErr *pgconn.PgError
	require.ErrorAs(b.t, err, &pgErr, sql)
	require.Contains(b.t, pgErr.Message, text, sql)
	require.Equal(b.t, code, pgErr.Code, pgErr.Message)
	return pgErr
}

// one returns what a query of one row and one column gives.
func one[T any](b *bench, sql string, args ...any) (v T) {
	b.t.Helper()
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(), sql, args...).Scan(&v), sql)
	return v
}

// heard returns the payloads of everything announced until now, in order.
func (b *bench) heard() []string {
	b.t.Helper()
	b.marks++
	mark := fmt.Sprint("mark ", b.marks)
	b.do("SELECT pg_notify('mark', $1)", mark)
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var payloads []string
	for {
		n, err := b.ear.WaitForNotification(ctx)
		require.NoError(b.t, err, "heard %d so far", len(payloads))
		if n.Channel == "mark" && n.Payload == mark {
			return payloads
		}
		require.LessOrEqual(b.t, len(n.Payload), 7999)
		payloads = append(payloads, n.Payload)
	}
}

// after runs statements and returns the payloads of what they announced.
func (b *bench) after(sql string, args ...any) []string {
	b.t.Helper()
	b.do(sql, args...)
	return b.heard()
}

// change is a value as the triggers send it; key is what stands before it.
type change struct {
	key  string
	text string

	Op, Action    string
	Schema, Table string
	Seq           int64
	ID            map[string]any `json:"id"`
	OldID         map[string]any `json:"old_id"`
	OldKey        []int64        `json:"old_key"`
	Row, Old      map[string]any
	Changed       []string
	Truncated     bool
	Count         *int64
	Part, Parts   int
	Width         int
	IDs           []map[string]any `json:"ids"`
	Pghub         string           // gap, where one is announced
	Since, Until  time.Time        // of the gap
}

func parse(t testing.TB, payload string) (c change) {
	t.Helper()
	key, value, _ := strings.Cut(payload, ":")
	require.True(t, strings.HasPrefix(key, "e"), payload)
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&c), payload)
	c.key, c.text = key[1:], value
	return c
}

// changes is after, decoded.
func (b *bench) changes(sql string, args ...any) (list []change) {
	b.t.Helper()
	for _, payload := range b.after(sql, args...) {
		list = append(list, parse(b.t, payload))
	}
	return list
}

// change is changes where exactly one is due.
func (b *bench) change(sql string, args ...any) change {
	b.t.Helper()
	list := b.changes(sql, args...)
	require.Len(b.t, list, 1, sql)
	return list[0]
}

// role creates a role that may do nothing in particular, for as long as the test runs.
func (b *bench) role() string {
	b.t.Helper()
	name := "pghub_" + strings.ToLower(rand.Text()[:10])
	b.do("CREATE ROLE " + name)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), time.Minute)
		defer cancel()
		_, err := b.conn.Exec(ctx, "RESET ROLE; DROP OWNED BY "+name+"; DROP ROLE "+name)
		require.NoError(b.t, err)
	})
	return name
}
