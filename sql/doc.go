// Package sql is the half of pghub that lives in the database: functions that send events from SQL, and triggers that
// announce what happens to tables. [Install] puts it there, as schema pghub; DBAs may run the same files with psql.
//
//	if err := sql.Install(ctx, pool); err != nil { … }
//	err := sql.Apply(ctx, pool,
//		sql.Watch{Table: "people"},                         // an event a row, with the row
//		sql.Watch{Table: "orders", Level: sql.Statement})   // an event a statement, with the keys of its rows
//
// and in SQL
//
//	SELECT pghub.notify('topic1', 42, '{"a":1}');
//	SELECT pghub.watch('people', exclude => '{photo}');
//
// What is promised of a watch:
//
//   - A statement never fails because of it: an event too large for PostgreSQL (7,999 bytes) is sent with the key alone
//     and "truncated":true. Writers of a watched table need no privilege beyond those on the table.
//   - No key is left out, however many rows a statement touches.
//   - Events are those of PostgreSQL: sent by the commit, in its order, and not at all by what was rolled back.
//     Two equal changes within a transaction are two events, where PostgreSQL alone would fold them into one.
//
// The events, the options and who may do what are in README.md of this folder. PostgreSQL 13 and later.
package sql
