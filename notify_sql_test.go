package pghub

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// openSQL opens a database with database/sql, in a query mode of pgx.
func openSQL(t *testing.T, dsn string, mode pgx.QueryExecMode, params map[string]string) *sql.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = mode
	for name, value := range params {
		cfg.RuntimeParams[name] = value
	}
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// A transaction of database/sql publishes with its commit, and not at all with its rollback, in every query mode, with any
// setting that changes how SQL is read, and whatever the text.
func TestNotifySQLTx(t *testing.T) {
	values := []string{"plain", `'; DROP TABLE x; --`, `back\slash \x41 \'`, "é€😀", "$1 ? :name @p1 %s", strings.Repeat("x", 7999-len(`e1:""`))}
	topics := []string{"a", `To"pic's \x`, "é"}
	dsn := pgtest.Database(t)
	hub := realHub(t, Config{Pool: pgtest.Pool(t, dsn)})
	w, _ := watch(t, hub, topics...)
	startHub(t, hub)
	var want []string
	for name, db := range map[string]*sql.DB{
		"cached":   openSQL(t, dsn, pgx.QueryExecModeCacheStatement, nil),
		"simple":   openSQL(t, dsn, pgx.QueryExecModeSimpleProtocol, nil),
		"exec":     openSQL(t, dsn, pgx.QueryExecModeExec, nil),
		"latin1":   openSQL(t, dsn, pgx.QueryExecModeExec, map[string]string{"client_encoding": "LATIN1"}),
		"escaping": openSQL(t, dsn, pgx.QueryExecModeExec, map[string]string{"standard_conforming_strings": "off", "bytea_output": "escape"}),
		"hidden":   openSQL(t, dsn, pgx.QueryExecModeExec, map[string]string{"search_path": "nowhere"}),
	} {
		for _, commits := range []bool{true, false} {
			tx, err := db.BeginTx(within(t), nil)
			require.NoError(t, err, name)
			for i, value := range values {
				topic := topics[i%len(topics)]
				require.NoError(t, hub.NotifySQLTx(within(t), tx, topic, []int64{1}, value), name)
				if commits {
					payload, err := KeyValueCodec{}.Append(nil, []int64{1}, value)
					require.NoError(t, err)
					want = append(want, topic+" "+string(payload))
				}
			}
			if commits {
				require.NoError(t, tx.Commit(), name)
			} else {
				require.NoError(t, tx.Rollback(), name)
			}
		}
	}
	require.NoError(t, hub.Stop(within(t)))
	var got []string
	for _, line := range w.lines() {
		if !strings.HasPrefix(line, "{") {
			got = append(got, line)
		}
	}
	require.Equal(t, want, got)
}

// recordingSQL is a test's double of a transaction of database/sql.
type recordingSQL struct {
	query string
	args  []any
	err   error
}

func (r *recordingSQL) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	r.query, r.args = query, args
	return nil, r.err
}

// The statement has nothing that a library could take for a parameter, and nothing is sent that is not valid.
func TestNotifySQLTxStatement(t *testing.T) {
	hub := unitHub(t, Config{})
	tx := &recordingSQL{}
	require.NoError(t, hub.NotifySQLTx(t.Context(), tx, `?'$1`, []int64{1}, `:x ? $1 '`))
	require.Empty(t, tx.args)
	require.Regexp(t, `^SELECT pg_catalog\.pg_notify\(pg_catalog\.convert_from\(pg_catalog\.decode\('[0-9a-f]*', 'hex'\), 'UTF8'\), pg_catalog\.convert_from\(pg_catalog\.decode\('[0-9a-f]*', 'hex'\), 'UTF8'\)\)$`, tx.query)

	tx = &recordingSQL{}
	require.ErrorIs(t, hub.NotifySQLTx(t.Context(), tx, "", nil, nil), ErrTopic)
	require.ErrorIs(t, hub.NotifySQLTx(t.Context(), tx, "a", nil, func() {}), ErrValue)
	require.ErrorIs(t, hub.NotifySQLTx(t.Context(), tx, "a", nil, strings.Repeat("x", 8000)), ErrPayloadTooLarge)
	require.Empty(t, tx.query)

	tx.err = errors.New("deadlock detected")
	err := hub.NotifySQLTx(t.Context(), tx, "a", nil, nil)
	require.ErrorIs(t, err, tx.err)
	require.ErrorContains(t, err, `notify "a" in a transaction`)
}
