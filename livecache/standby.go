package livecache

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is a pool, a connection or a transaction of pgx.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// AwaitStandby returns when a standby has replayed all that was committed on its primary before the call: what is read from it then
// is no older than an event that was delivered before. It is for a Load that reads from a standby, as its first step; standby
// has to be the very server that is read from, so with several of them behind one address pass the connection, or transaction,
// that the query uses. It costs a query on the primary, and on the standby one or more, with pauses from 1 ms to 50 ms between them. A
// standby that has been promoted is awaited no longer. The error is that of a query, or of ctx: give it a limit, a standby may
// be behind for long.
//
// See https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL.
func AwaitStandby(ctx context.Context, primary, standby Querier) error {
	var position string
	var page, segment uint64
	const where = `SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.current_setting('wal_block_size')::bigint,
		pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))`
	if err := primary.QueryRow(ctx, where).Scan(&position, &page, &segment); err != nil {
		return fmt.Errorf("livecache: the primary's position: %w", err)
	}
	var high, low uint64
	if _, err := fmt.Sscanf(position, "%X/%X", &high, &low); err != nil {
		return fmt.Errorf("livecache: the primary's position %q: %w", position, err)
	}
	end := endOfRecords(high<<32|low, page, segment)
	position = fmt.Sprintf("%X/%X", end>>32, end&0xffffffff)

	const reached = `SELECT NOT pg_catalog.pg_is_in_recovery() OR coalesce(pg_catalog.pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var there bool
		if err := standby.QueryRow(ctx, reached, position).Scan(&there); err != nil {
			return fmt.Errorf("livecache: await the standby: %w", err)
		}
		if there {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("livecache: await the standby: %w", ctx.Err())
		}
	}
}

// endOfRecords is how far a standby comes without another record. The position where the next record will go is behind the
// header of a page that has none yet; that of the last record's end is before it.
func endOfRecords(position, page, segment uint64) uint64 {
	const header, firstHeader = 24, 40 // of a page, and of the first page of a segment
	switch {
	case position%segment == firstHeader:
		return position - firstHeader
	case position%segment >= page && position%page == header:
		return position - header
	}
	return position
}
