package livecache

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// QueryRunner is a pool of pgx. A connection of pgx can run one Load at a time: it needs Config.Loads 1, and nobody else on it.
type QueryRunner interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Query is a Load by one statement. Its parameter is the keys, as an array; its rows are a key and a value. A value of several
// columns comes as JSON, into whatever encoding/json makes of that:
//
//	livecache.Query[int64, int64](pool, `SELECT id, price FROM prices WHERE id = ANY($1)`)
//	livecache.Query[int64, Person](pool, `SELECT id, to_jsonb(p) FROM people p WHERE id = ANY($1)`)
func Query[K comparable, V any](db QueryRunner, sql string) func(ctx context.Context, keys []K) (map[K]V, error) {
	return func(ctx context.Context, keys []K) (map[K]V, error) {
		rows, err := db.Query(ctx, sql, keys)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		found := make(map[K]V, len(keys))
		for rows.Next() {
			var key K
			var value V // a new one for each row: it may have pointers in it
			if err := rows.Scan(&key, &value); err != nil {
				return nil, err
			}
			found[key] = value
		}
		return found, rows.Err()
	}
}
