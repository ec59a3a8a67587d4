package pghub

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/internal/source"
)

// statement is a simple query under way.
type statement struct {
	sql      string
	changes  []source.Change // LISTEN and UNLISTEN
	barriers []chan struct{} // closed by the answer
	err      error           // what the server said so far
}

const (
	channelsPerStatement = 1000 // the server's work grows with the square
	barrierSQL           = ""   // an empty query costs the server nothing
	probeSQL             = `SELECT pg_catalog.pg_is_in_recovery()`
)

func newStatement(changes ...source.Change) *statement {
	var sql []byte
	for _, c := range changes {
		if len(sql) > 0 {
			sql = append(sql, ';')
		}
		if c.Listen {
			sql = append(sql, "LISTEN "...)
		} else {
			sql = append(sql, "UNLISTEN "...)
		}
		sql = pgwire.AppendIdentifier(sql, c.Topic)
	}
	return &statement{sql: string(sql), changes: changes}
}

// row takes a part of the answer to a probe: nothing else that is asked has rows.
func (s *session) row(f pgwire.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.sent) == 0 || s.sent[0].sql != probeSQL:
		return fmt.Errorf("%w: a row that nobody asked for", pgwire.ErrProtocol)
	case f.Type == pgwire.DataRow:
		return checkProbe(f.Body)
	}
	return nil
}

// checkParameter refuses what would keep a session from hearing, or from understanding what it hears. A server says so by
// itself where something in between has put another one in the place of the first, or where an extension demotes it.
func checkParameter(body []byte) error {
	var msg pgproto3.ParameterStatus
	if err := msg.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", pgwire.ErrProtocol, err)
	}
	switch {
	case msg.Name == "in_hot_standby" && msg.Value == "on":
		return ErrStandby
	case msg.Name == "client_encoding" && msg.Value != "UTF8":
		return fmt.Errorf("client_encoding has become %s", msg.Value)
	}
	return nil
}

// checkProbe takes the answer to pg_is_in_recovery: a server that was demoted would never send anything again.
func checkProbe(body []byte) error {
	var msg pgproto3.DataRow
	if err := msg.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", pgwire.ErrProtocol, err)
	}
	if len(msg.Values) == 1 && string(msg.Values[0]) == "t" {
		return ErrStandby
	}
	return nil
}
