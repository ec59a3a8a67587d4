package fakepg

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Answer is what a statement given to Handle is answered with: the rows, or an error. args are its parameters in the
// text form of PostgreSQL, nil for NULL.
type Answer func(args [][]byte) (rows [][]any, err error)

// foreign is a statement that Handle was told of.
type foreign struct {
	pattern pattern
	columns []Column
	answer  Answer
}

// Handle teaches the server a statement, which is told from others by its words: white space, comments, casts and the
// case of keywords do not matter, and its $1, $2, … stand for parameters or for constants. Without columns it returns no
// rows. answer runs on the goroutine of a connection, without any lock held. An error of type *pgconn.PgError is sent
// as it is, any other with the code XX000.
func (s *Server) Handle(sql string, columns []Column, answer Answer) error {
	p, err := newPattern(sql)
	if err != nil {
		return err
	}
	s.change(func() { s.foreign = append(s.foreign, &foreign{p, columns, answer}) })
	return nil
}

// foreignLocked makes the plan of a statement that Handle was told of, the last first, or returns nil.
func (s *Server) foreignLocked(plain statement) (*plan, *pgproto3.ErrorResponse) {
	for i := len(s.foreign) - 1; i >= 0; i-- {
		f := s.foreign[i]
		operands, ok := f.pattern.match(plain)
		if !ok {
			continue
		}
		p := &plan{columns: f.columns}
		p.takes(operands, nil)
		p.ask = func(args *arguments) ([][]any, error) {
			texts := make([][]byte, len(operands))
			for i, op := range operands {
				var err error
				if texts[i], err = args.plainText(op); err != nil {
					return nil, err
				}
			}
			return f.answer(texts)
		}
		verb := plain.verb()
		p.run = func(_ *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
			return result{tag: verb}, nil // perform fills in the rest
		}
		return p, nil
	}
	return nil, nil
}

// asError makes an answer of an error.
func asError(err error) *pgproto3.ErrorResponse {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return fail("XX000", err.Error())
	}
	return ErrorResponse(pgErr)
}

// ErrorResponse is the message that brings an error to a client. Without a severity it is ERROR.
func ErrorResponse(err *pgconn.PgError) *pgproto3.ErrorResponse {
	severity := err.Severity
	if severity == "" {
		severity = "ERROR"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: err.Code, Message: err.Message, Detail: err.Detail, Hint: err.Hint,
		SchemaName: err.SchemaName, TableName: err.TableName, ColumnName: err.ColumnName, ConstraintName: err.ConstraintName,
	}
}

// tagOf is the command tag of a statement that Handle was told of.
func tagOf(verb string, rows int) string {
	switch verb {
	case "insert":
		return fmt.Sprintf("INSERT 0 %d", rows)
	case "update":
		return fmt.Sprintf("UPDATE %d", rows)
	case "delete":
		return fmt.Sprintf("DELETE %d", rows)
	}
	return fmt.Sprintf("SELECT %d", rows)
}
