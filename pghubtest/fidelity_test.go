package pghubtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/pghubtest"
)

// step is what a client does. A listener of another connection listens to a, b and B all the while.
type step struct {
	sql  string
	args []any
	many bool // in the simple protocol, several statements in one
}

func do(sql string, args ...any) step { return step{sql: sql, args: args} }

const (
	sendRows          = `SELECT pg_catalog.count(pg_catalog.pg_notify(t, p)) FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::text[])) AS n(t, p)`
	sendMany          = `SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p)`
	sendManyQualified = `SELECT pg_catalog.count(pg_catalog.pg_notify(t, p)) FROM pg_catalog.unnest($1::pg_catalog.text[], $2::pg_catalog.text[]) AS n(t, p)`
)

// scripts are what both servers are to answer in the same way.
var scripts = map[string][]step{
	"pg_notify":         {do(`SELECT pg_notify($1, $2)`, "a", "1"), do(`select  PG_NOTIFY ( $1 , $2 ) -- why`, "B", "é"), do(`SELECT pg_catalog.pg_notify($1::text, $2::text)`, "a", "2")},
	"constants":         {do(`SELECT pg_notify('a', 'it''s')`), do(`/* tag */ SELECT pg_notify('b', $1)`, "x"), do(`SELECT pg_notify($2, $1)`, "payload", "a")},
	"several in a list": {do(`SELECT pg_notify($1, $2), pg_notify($3, $4) AS second, pg_notify('a', NULL)`, "a", "1", "b", "2")},
	"many": {
		do(sendMany, []string{"a", "b", "a"}, []string{"1", `{"quoted,\"`, ""}), do(sendManyQualified, []string{"a"}, []string{"x"}), do(sendRows, []string{"a", "b"}, []string{"x"}),
		do(strings.ReplaceAll(sendManyQualified, "FROM pg_catalog.", "FROM "), []string{"a"}, []string{"y"}),
		do(sendMany, []string{}, []string{}), do(sendMany, []string{"a", "a"}, []string{"1"}), do(`SELECT pg_notify(t, p) FROM unnest($1::text[], $2::text[]) AS n(t, p)`, []string{"a", "b"}, []string{"1", "2"}),
	},
	"NOTIFY":      {do(`NOTIFY a`), do(`NOTIFY a, 'x'`), do(`NOTIFY "B", ''`), do(`NOTIFY B, 'folded'`), do(`notify A, 'folded'`)},
	"folding":     {do(`BEGIN`), do(`NOTIFY a, '1'`), do(`NOTIFY b, '1'`), do(`NOTIFY a, '1'`), do(`NOTIFY a, '2'`), do(`COMMIT`), do(`NOTIFY a, '1'`)},
	"many folded": {do(sendMany, []string{"a", "a", "b", "a"}, []string{"1", "1", "1", "2"})},
	"rollback":    {do(`BEGIN`), do(`NOTIFY a, 'never'`), do(`ROLLBACK`), do(`NOTIFY a, 'after'`)},
	"failed": {
		do(`BEGIN`), do(`NOTIFY a, 'never'`), do(`NOTIFY a, $1`, "syntax"), do(`NOTIFY a, 'refused'`), do(`SELECT 1`), do(`COMMIT`), do(`NOTIFY a, 'after'`),
	},
	"savepoints": {
		do(`BEGIN`), do(`NOTIFY a, '1'`), do(`SAVEPOINT one`), do(`NOTIFY a, 'never'`), do(`SAVEPOINT "Two"`), do(`NOTIFY a, 'neither'`), do(`ROLLBACK TO SAVEPOINT one`),
		do(`NOTIFY a, '2'`), do(`SAVEPOINT two`), do(`NOTIFY a, '3'`), do(`RELEASE two`), do(`SAVEPOINT three`), do(`SELECT pg_notify('', '')`), do(`NOTIFY a, 'refused'`),
		do(`ROLLBACK TO three`), do(`NOTIFY a, '4'`), do(`RELEASE SAVEPOINT nobody`), do(`ROLLBACK TO one`), do(`COMMIT`),
	},
	"no block":      {do(`COMMIT`), do(`ROLLBACK`), do(`SAVEPOINT x`), do(`RELEASE x`), do(`ROLLBACK TO x`), do(`BEGIN`), do(`BEGIN`), do(`START TRANSACTION`), do(`ABORT`), do(`END`)},
	"begin options": {do(`BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE`), do(`NOTIFY a`), do(`END`), do(`START TRANSACTION READ ONLY`), do(`NOTIFY a, 'ro'`), do(`COMMIT`)},
	"limits": {
		do(`SELECT pg_notify($1, $2)`, "a", strings.Repeat("x", 7999)), do(`SELECT pg_notify($1, $2)`, "a", strings.Repeat("x", 8000)),
		do(`SELECT pg_notify($1, $2)`, "", "x"), do(`SELECT pg_notify($1, $2)`, nil, "x"), do(`SELECT pg_notify($1, $2)`, "a", nil),
		do(`SELECT pg_notify($1, $2)`, strings.Repeat("n", 63), "x"), do(`SELECT pg_notify($1, $2)`, strings.Repeat("n", 64), "x"),
		do(sendMany, []string{"a", ""}, []string{"never", "x"}), do(`NOTIFY a, '` + strings.Repeat("x", 8000) + `'`), do(`LISTEN "` + strings.Repeat("é", 32) + `"`),
		do(`NOTIFY ` + strings.Repeat("n", 70) + `, 'truncated'`),
	},
	"bad text":     {do(`SELECT pg_notify($1, $2)`, "a", "\xff"), do(sendMany, []string{"a"}, []string{"\xc3"}), do(`NOTIFY a, 'after'`)},
	"NUL":          {do(`SELECT pg_notify($1, $2)`, "a", "nul\x00"), do(sendMany, []string{"a"}, []string{"nul\x00"})},
	"syntax":       {do(`LISTEN`), do(`LISTEN ""`), do(`LISTEN 'a'`), do(`LISTEN a b`), do(`NOTIFY a,`), do(`NOTIFY "a`), do(`UNLISTEN a b`), do(`ROLLBACK TO`), do(`SAVEPOINT 'x'`)},
	"empty":        {do(``), do(`-- nothing`), do(`;`), do(`/* */ ; -- x`)},
	"several":      {{`NOTIFY a, '1'; NOTIFY b, '2'; NOTIFY a, '1'`, nil, true}, {`NOTIFY a, 'never'; LISTEN ""; NOTIFY a, 'neither'`, nil, true}, {`NOTIFY a, 'never'; SELECT pg_notify('', '')`, nil, true}},
	"block inside": {{`NOTIFY a, '1'; BEGIN; NOTIFY a, '2'`, nil, true}, do(`NOTIFY a, '3'`), {`COMMIT; NOTIFY a, '4'`, nil, true}, {`BEGIN; NOTIFY a, '5'; ROLLBACK; NOTIFY a, '6'`, nil, true}},
	"own channels": {
		do(`LISTEN own`), do(`NOTIFY own, '1'`), do(`BEGIN`), do(`NOTIFY own, '2'`), do(`UNLISTEN own`), do(`ROLLBACK`), do(`NOTIFY own, '3'`), do(`BEGIN`), do(`UNLISTEN *`), do(`NOTIFY own, '4'`), do(`COMMIT`),
		do(`NOTIFY own, '5'`), do(`BEGIN`), do(`LISTEN late`), do(`NOTIFY late, '6'`), do(`COMMIT`), do(`SAVEPOINT x`), do(`NOTIFY late, '7'`), do(`DISCARD ALL`), do(`NOTIFY late, '8'`),
	},
	"listen undone":  {do(`BEGIN`), do(`SAVEPOINT s`), do(`LISTEN own`), do(`ROLLBACK TO s`), do(`LISTEN other`), do(`COMMIT`), do(`NOTIFY own`), do(`NOTIFY other`)},
	"settings":       {do(`SET application_name = 'x'`), do(`SET statement_timeout TO 0`), do(`RESET application_name`), do(`SHOW transaction_read_only`), do(`SELECT 1`), do(`SELECT pg_is_in_recovery()`), do(`SELECT set_config('application_name', $1, false) AS name`, "y")},
	"start-up check": {do(`SELECT pg_catalog.pg_is_in_recovery(), ` + pgwire.Settings(nil))},
	"deallocate":     {do(`DEALLOCATE ALL`), do(`DEALLOCATE nobody`), do(`SELECT 1`)},
}

// TestLikePostgreSQL runs scripts on both servers in all of pgx's query modes, and compares every answer and every
// notification.
func TestLikePostgreSQL(t *testing.T) {
	real, err := pgx.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for name, script := range scripts {
			if name == "NUL" && mode == pgx.QueryExecModeSimpleProtocol {
				continue // NUL ends the text of a query too early: the one takes that for a broken message, the other for a broken client
			}
			t.Run(fmt.Sprintf("%v/%s", mode, name), func(t *testing.T) {
				srv := pghubtest.New(t)
				want := transcript(t, real.Copy(), mode, script)
				got := transcript(t, srv.ConnConfig(), mode, script)
				require.Equal(t, strings.Join(want, "\n"), strings.Join(got, "\n"))
			})
		}
	}
}

// transcript plays a script, and writes down what comes of it.
func transcript(t *testing.T, cfg *pgx.ConnConfig, mode pgx.QueryExecMode, script []step) (lines []string) {
	var notified []string
	var pids []uint32
	cfg.DefaultQueryExecMode = mode
	listenCfg := cfg.Copy()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		lines = append(lines, fmt.Sprint("  notice ", n.Severity, " ", n.Code))
	}
	cfg.OnNotification = func(c *pgconn.PgConn, n *pgconn.Notification) {
		lines = append(lines, fmt.Sprintf("  heard itself %s %q %v", n.Channel, n.Payload, n.PID == c.PID()))
	}
	listenCfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		notified = append(notified, fmt.Sprintf("  notification %s %q", n.Channel, n.Payload))
		pids = append(pids, n.PID)
	}
	conn, listener := connect(t, cfg), connect(t, listenCfg)
	_, err := listener.PgConn().Exec(t.Context(), `LISTEN a; LISTEN b; LISTEN "B"; LISTEN `+strings.Repeat("n", 63)).ReadAll()
	require.NoError(t, err)
	for _, st := range script {
		lines = append(lines, fmt.Sprintf("%.100s", st.sql))
		if st.many {
			results, err := conn.PgConn().Exec(t.Context(), st.sql).ReadAll()
			for _, r := range results {
				lines = append(lines, "  "+r.CommandTag.String())
			}
			lines = append(lines, answer(err))
		} else {
			lines = append(lines, play(t, conn, st)...)
		}
		lines = append(lines, fmt.Sprintf("  status %c", conn.PgConn().TxStatus()))
		// What is committed has been sent to the listener before it is answered.
		require.NoError(t, listener.Ping(t.Context()))
		lines = append(lines, notified...)
		notified = nil
	}
	for _, pid := range pids {
		require.Equal(t, conn.PgConn().PID(), pid)
	}
	return lines
}

func connect(t *testing.T, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// play runs one statement.
func play(t *testing.T, conn *pgx.Conn, st step) (lines []string) {
	rows, err := conn.Query(t.Context(), st.sql, st.args...)
	if err != nil {
		return []string{answer(err)}
	}
	var fields []string
	for _, f := range rows.FieldDescriptions() {
		fields = append(fields, fmt.Sprint(f.Name, " ", f.DataTypeOID))
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			lines = append(lines, "  "+err.Error())
		}
		lines = append(lines, fmt.Sprintf("  %q %#v", fields, values))
	}
	if rows.Err() != nil {
		return append(lines, answer(rows.Err()))
	}
	return append(lines, "  "+rows.CommandTag().String())
}

func answer(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr):
		return "  error " + pgErr.Severity + " " + pgErr.Code
	case err != nil:
		return "  error of pgx: " + err.Error()
	}
	return "  done"
}

// TestBatchesAndPipelines compares what pgx sends in one go.
func TestBatchesAndPipelines(t *testing.T) {
	real, err := pgx.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for name, bad := range map[string]string{"good": "x", "bad": ""} {
			t.Run(fmt.Sprintf("%v/%s", mode, name), func(t *testing.T) {
				srv := pghubtest.New(t)
				want := batch(t, real.Copy(), mode, bad)
				require.Equal(t, want, batch(t, srv.ConnConfig(), mode, bad))
			})
		}
	}
	t.Run("pipeline", func(t *testing.T) {
		srv := pghubtest.New(t)
		require.Equal(t, pipeline(t, real.Copy()), pipeline(t, srv.ConnConfig()))
	})
}

// batch sends one transaction as a batch, and returns what came of it.
func batch(t *testing.T, cfg *pgx.ConnConfig, mode pgx.QueryExecMode, topic string) (lines []string) {
	cfg.DefaultQueryExecMode = mode
	listenCfg := cfg.Copy()
	listenCfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		lines = append(lines, "notification "+n.Channel+" "+n.Payload)
	}
	conn, listener := connect(t, cfg), connect(t, listenCfg)
	_, err := listener.Exec(t.Context(), `LISTEN a`)
	require.NoError(t, err)
	b := &pgx.Batch{}
	b.Queue(`SELECT pg_notify($1, $2)`, "a", "1")
	b.Queue(`SELECT pg_notify($1, $2)`, "a", "1")
	b.Queue(`SELECT pg_notify($1, $2)`, topic, "2")
	b.Queue(sendMany, []string{"a", "a"}, []string{"3", "1"})
	results := conn.SendBatch(t.Context(), b)
	for range b.Len() {
		tag, err := results.Exec()
		lines = append(lines, tag.String()+answer(err))
	}
	lines = append(lines, answer(results.Close()))
	require.NoError(t, listener.Ping(t.Context()))
	return lines
}

// pipeline sends three transactions with a refused statement in the second.
func pipeline(t *testing.T, cfg *pgx.ConnConfig) (lines []string) {
	listenCfg := cfg.Copy()
	listenCfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		lines = append(lines, "notification "+n.Channel+" "+n.Payload)
	}
	conn, listener := connect(t, cfg), connect(t, listenCfg)
	_, err := listener.Exec(t.Context(), `LISTEN a`)
	require.NoError(t, err)
	p := conn.PgConn().StartPipeline(t.Context())
	send := func(topic, payload string) {
		p.SendQueryParams(`SELECT pg_notify($1, $2)`, [][]byte{[]byte(topic), []byte(payload)}, nil, nil, nil)
	}
	sync := func() { require.NoError(t, p.Sync()) }
	p.SendPrepare("kept", `SELECT pg_notify($1, $2)`, nil)
	send("a", "1")
	send("a", "1")
	sync()
	send("a", "undone")
	send("", "refused")
	send("a", "skipped")
	sync()
	p.SendQueryPrepared("kept", [][]byte{[]byte("a"), []byte("2")}, nil, nil)
	p.SendDeallocate("kept")
	sync()
	for {
		results, err := p.GetResults()
		if err != nil {
			lines = append(lines, answer(err))
			continue
		}
		if results == nil {
			break
		}
		switch r := results.(type) {
		case *pgconn.ResultReader:
			tag, err := r.Close()
			lines = append(lines, tag.String()+answer(err))
		case *pgconn.StatementDescription:
			lines = append(lines, fmt.Sprint(r.ParamOIDs))
		default:
			lines = append(lines, fmt.Sprintf("%T", r))
		}
	}
	require.NoError(t, p.Close())
	require.NoError(t, listener.Ping(t.Context()))
	require.Contains(t, lines, "notification a 2")
	require.False(t, slices.Contains(lines, "notification a undone"))
	return lines
}

// A connection inside a transaction hears nothing before it ends, in the order of the commits.
func TestNothingIsDeliveredInsideATransaction(t *testing.T) {
	real, err := pgx.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	deaf := func(t *testing.T, cfg *pgx.ConnConfig) (lines []string) {
		listenCfg := cfg.Copy()
		listenCfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { lines = append(lines, n.Payload) }
		conn, listener := connect(t, cfg), connect(t, listenCfg)
		say := func(c *pgx.Conn, sql string) {
			_, err := c.Exec(t.Context(), sql)
			require.NoError(t, err)
			lines = append(lines, sql)
		}
		say(listener, `LISTEN a`)
		say(listener, `BEGIN`)
		say(conn, `NOTIFY a, '1'`)
		say(listener, `NOTIFY a, '2'`)
		say(conn, `NOTIFY a, '3'`)
		say(listener, `SELECT 1`)
		say(listener, `COMMIT`)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for !slices.Contains(lines, "3") || !slices.Contains(lines, "2") {
			_, err := listener.WaitForNotification(ctx)
			require.NoError(t, err)
		}
		slices.Sort(lines[len(lines)-3:]) // COMMIT says what came with it before it returns
		return lines
	}
	require.Equal(t, deaf(t, real.Copy()), deaf(t, pghubtest.New(t).ConnConfig()))
}
