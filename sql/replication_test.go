package sql

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// What a subscription applies is announced at level row where its trigger fires always, and not otherwise: PostgreSQL runs no
// triggers of statements for it. Durable watches are no different.
func TestLogicalReplication(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
	open := func(topics ...string) *bench {
		t.Helper()
		dsn, _, err := server.CreateDatabase(t.Context())
		require.NoError(t, err)
		b := &bench{t: t, dsn: dsn, topics: topics, conn: pgtest.Conn(t, dsn), ear: pgtest.Conn(t, dsn)}
		for _, topic := range append(topics, "mark") {
			_, err := b.ear.Exec(t.Context(), "LISTEN "+pgx.Identifier{topic}.Sanitize())
			require.NoError(t, err)
		}
		b.do(`CREATE TABLE people (id int PRIMARY KEY); CREATE TABLE animals (id int PRIMARY KEY); CREATE TABLE plants (id int PRIMARY KEY)`)
		return b
	}
	from, to := open(), open("people", "animals")
	from.do(`CREATE PUBLICATION everything FOR ALL TABLES`)
	from.do(`SELECT pg_create_logical_replication_slot('everything', 'pgoutput')`)
	require.NoError(t, Install(t.Context(), to.conn))
	start := one[int64](to, "SELECT tick FROM pghub.locate('latest')")
	require.NoError(t, Apply(t.Context(), to.conn, Watch{Table: "people"}, Watch{Table: "animals", Level: Statement}, Watch{Table: "plants", Durable: true}))
	to.do(`ALTER TABLE animals ENABLE ALWAYS TRIGGER pghub_watch_insert; ALTER TABLE plants ENABLE ALWAYS TRIGGER pghub_watch_insert`)
	to.do(`CREATE SUBSCRIPTION everything CONNECTION '` + from.dsn + `' PUBLICATION everything WITH (create_slot = false, copy_data = false)`)
	applied := func(id int) {
		t.Helper()
		from.do(`INSERT INTO people VALUES ($1)`, id)
		require.Eventually(t, func() bool { return one[bool](to, `SELECT EXISTS (SELECT FROM people WHERE id = $1)`, id) }, time.Minute, 2*time.Millisecond)
	}
	from.do(`INSERT INTO animals VALUES (1); INSERT INTO plants VALUES (1)`)
	applied(1)
	require.Empty(t, to.heard(), "a trigger fires for what is written here")
	to.do(`ALTER TABLE people ENABLE ALWAYS TRIGGER pghub_watch_insert`)
	from.do(`INSERT INTO animals VALUES (2)`)
	applied(2)
	heard := to.heard()
	require.Len(t, heard, 1)
	require.Contains(t, heard[0], `e2:{"op":"insert"`)
	require.NotNil(t, to.tick())
	events, _ := to.page(start, wholeTick, wholeTick, nil)
	require.Len(t, events, 1)
	require.Equal(t, "plants", *events[0].Topic)
}
