package pghub

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
)

// SQLExecer is the part of a transaction of database/sql that NotifySQLTx needs: an [sql.Tx], an [sql.Conn] within a
// transaction, or what a library wraps around these and lets you call ExecContext on:
//
//   - sqlx: the *sqlx.Tx, which embeds an *sql.Tx
//   - bun: the bun.Tx
//   - ent: the *ent.Tx, generated with the feature sql/execquery
//   - gorm: inside of Transaction, tx.Statement.ConnPool
//   - sqlc: what New was given; with sqlc for pgx, [Hub.NotifyTx] takes the pgx.Tx
type SQLExecer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// NotifySQLTx is [Hub.NotifyTx] for a transaction of database/sql, by whatever driver: the event is sent when that commits, and
// never if it does not. Given an [sql.DB] it is sent at once, by a statement of its own.
//
// The statement has no parameters, so that no driver and no library needs to know how they are written. Topic and payload
// stand in it as hexadecimal digits, and nothing else: there is nothing to escape.
func (h *Hub) NotifySQLTx(ctx context.Context, tx SQLExecer, topic string, key []int64, value any) error {
	payload, err := h.encode(topic, key, value)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, notifyPlainSQL(topic, payload)); err != nil {
		return fmt.Errorf("pghub: notify %q in a transaction: %w", topic, err)
	}
	return nil
}

// notifyPlainSQL says it without parameters, and independently of client_encoding and standard_conforming_strings.
func notifyPlainSQL(topic, payload string) string {
	const text = `pg_catalog.convert_from(pg_catalog.decode('%s', 'hex'), 'UTF8')`
	return fmt.Sprintf(`SELECT pg_catalog.pg_notify(`+text+`, `+text+`)`, hex.EncodeToString([]byte(topic)), hex.EncodeToString([]byte(payload)))
}
