package pghub

import (
	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/internal/source"
)

// statement is a simple query under way.
type statement struct {
	sql      string
	changes  []source.Change // LISTEN and UNLISTEN; empty for a probe
	barriers []chan struct{} // that a probe answers
	err      error           // what the server said so far
}

const (
	channelsPerStatement = 1000 // the server's work grows with the square
	probeSQL             = ""   // an empty query costs the server nothing
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
