package pghubtest

import "github.com/pghub/pghub/internal/fakepg"

// Column is a column of the rows that a statement returns: its name and the OID of its type, such as pgtype.Int8OID.
type Column struct {
	Name string
	OID  uint32
}

// Handle teaches the server a statement that it does not know, for code that also queries a table:
//
//	srv.Handle(`SELECT name FROM users WHERE id = $1`, []pghubtest.Column{{"name", pgtype.TextOID}},
//		func(args [][]byte) ([][]any, error) { return [][]any{{"Ada"}}, nil })
//
// The statement is told from others by its words; white space, comments, casts and the case of keywords do not matter.
// $1, $2, … stand for its parameters, or for constants in their place. answer gets them in the text form of PostgreSQL,
// nil for NULL, and returns rows of Go values that fit the columns; pgx encodes them. Without columns the statement
// returns no rows: their number is the number of rows affected. An error is sent to the client as with [Server.Refuse].
// answer runs on the goroutine of a connection, and for several connections at once. A transaction that is rolled back
// does not undo what it did. Of two answers to the same statement the later one counts.
func (s *Server) Handle(sql string, columns []Column, answer func(args [][]byte) (rows [][]any, err error)) {
	s.tb.Helper()
	own := make([]fakepg.Column, len(columns))
	for i, c := range columns {
		own[i] = fakepg.Column(c)
	}
	if err := s.fake.Handle(sql, own, answer); err != nil {
		s.tb.Errorf("pghubtest: Handle: %v", err)
	}
}
