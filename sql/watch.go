package sql

import (
	"context"
	"fmt"
)

// Level says what becomes one event.
type Level string

// The levels of a watch.
const (
	Row       Level = "row"       // each row written, with its contents
	Statement Level = "statement" // each statement, with the keys of all its rows, in as many events as they need
	Change    Level = "change"    // each transaction and kind of operation, without keys
)

// Operation is what a statement does to a table.
type Operation string

// The operations that a watch can announce.
const (
	Insert   Operation = "insert"
	Update   Operation = "update"
	Delete   Operation = "delete"
	Truncate Operation = "truncate"
)

// Watch declares which changes of a table become events: a call of pghub.watch, whose options these are. All but Table
// may be left out. README.md has the events that come of it.
type Watch struct {
	Table      string      // as SQL writes it: people, sales.orders, "Mixed Case" in double quotes; see pgx.Identifier.Sanitize
	Topic      string      // "": the table's name
	Level      Level       // "": Row
	Operations []Operation // nil: all four
	Name       string      // tells several watches of one table apart; "": "watch"

	// For level Row only.
	Of        []string // updates: only those that set one of these columns; nil: all
	Include   []string // the columns to announce; nil: all
	Exclude   []string // the columns to leave out
	Old       bool     // updates: with the row as it was
	Changed   bool     // updates: with the names of the columns that have new values
	Condition string   // SQL on NEW and OLD, as in CREATE TRIGGER … WHEN; "": none. Code: never build it from input
}

// Apply puts watches into effect, each in a transaction of its own unless conn is one. A watch of the same table and
// name is replaced; one that is in effect already is left alone and locks nothing, so that a service may declare its
// tables whenever it starts.
//
// A new watch needs the TRIGGER privilege on its table, a replaced one its ownership. A table, column or option that
// is not what it should be is an error that says so; it wraps the server's *pgconn.PgError, and names the table.
//
// It rests on [CREATE TRIGGER].
//
// [CREATE TRIGGER]: https://www.postgresql.org/docs/current/sql-createtrigger.html
func Apply(ctx context.Context, conn Conn, watches ...Watch) error {
	for _, w := range watches {
		call, args := w.call()
		var changed bool
		if err := conn.QueryRow(ctx, call, args...).Scan(&changed); err != nil {
			return fmt.Errorf("pghub/sql: watch %s: %w", w.Table, err)
		}
	}
	return nil
}

// Remove ends the watch of a table that has this name ("" for all of them) and says whether there was one. It needs
// the ownership of the table.
func Remove(ctx context.Context, conn Conn, table, name string) (bool, error) {
	var removed bool
	err := conn.QueryRow(ctx, "SELECT pghub.unwatch($1::text::regclass, nullif($2::text, ''))", table, name).Scan(&removed)
	if err != nil {
		return false, fmt.Errorf("pghub/sql: unwatch %s: %w", table, err)
	}
	return removed, nil
}

// call returns the call of pghub.watch and its arguments. What is not set is left to the function's defaults.
func (w Watch) call() (string, []any) {
	call, args := "SELECT pghub.watch($1::text::regclass", []any{w.Table}
	set := func(option, typ string, value any) {
		args = append(args, value)
		call += fmt.Sprintf(", %s => $%d::%s", option, len(args), typ)
	}
	for _, o := range []struct{ option, value string }{
		{"topic", w.Topic}, {"level", string(w.Level)}, {"name", w.Name}, {"condition", w.Condition},
	} {
		if o.value != "" {
			set(o.option, "text", o.value)
		}
	}
	if w.Operations != nil {
		operations := make([]string, len(w.Operations))
		for i, o := range w.Operations {
			operations[i] = string(o)
		}
		set("operations", "text[]", operations)
	}
	for _, o := range []struct {
		option string
		value  []string
	}{{`"of"`, w.Of}, {"include", w.Include}, {"exclude", w.Exclude}} {
		if o.value != nil {
			set(o.option, "text[]", o.value)
		}
	}
	if w.Old {
		set("old", "boolean", true)
	}
	if w.Changed {
		set("changed", "boolean", true)
	}
	return call + ")", args
}
