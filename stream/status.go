package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Status is what the database knows of a stream and of all its consumers, in whichever process: the figures of the views
// pghub.stream and pghub.stream_consumers.
type Status struct {
	Events    int64            // that are kept
	Bytes     int64            // on disk, indexes included
	Sequencer string           // the process that makes ticks; "": none does, and what is published cannot be read
	Consumers []ConsumerStatus // ordered by name
}

// ConsumerStatus is what the database knows of a named consumer.
type ConsumerStatus struct {
	Name         string
	Owner        string        // the process that works for it; "": none does
	EventsBehind int64         // events that it has not done, of all topics
	BytesBehind  int64         // of their keys, values and headers
	Behind       time.Duration // how old the oldest of these is
	Parked       int64         // events that were put aside
	Failing      int64         // events that have failed, and are tried again
}

// Status asks the database for the stream's figures, by two queries on a connection of the pool. ctx bounds that; an error is that of
// the query, or of ctx. Every process gets the same answer. It may be called at any time, also when the stream has ended, for as long as the
// pool is open. The role of the pool needs the right to read the stream, as for [Open].
func (s *Stream) Status(ctx context.Context) (Status, error) {
	var st Status
	err := s.db.do(ctx, func(c conn) error {
		const stream = `SELECT events, bytes, coalesce(sequencer, '') FROM pghub.stream`
		if err := c.QueryRow(ctx, stream).Scan(&st.Events, &st.Bytes, &st.Sequencer); err != nil {
			return err
		}
		const consumers = `SELECT name, coalesce(owner, ''), events_behind, bytes_behind, (seconds_behind * 1e9)::bigint, parked, failing
			FROM pghub.stream_consumers ORDER BY name`
		rows, err := c.Query(ctx, consumers)
		if err != nil {
			return err
		}
		st.Consumers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ConsumerStatus])
		return err
	})
	if err != nil {
		return Status{}, fmt.Errorf("pghub/stream: status: %w", err)
	}
	return st, nil
}
