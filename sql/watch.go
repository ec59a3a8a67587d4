package sql

import (
	"fmt"

	"github.com/pghub/pghub"
)

// Level says what becomes one event.
type Level string

// The levels of a watch.
const (
	Row       Level = "row"       // each row written, with its contents
	Statement Level = "statement" // each statement, with the keys of all its rows, in as many events as they need
	Change    Level = "change"    // each transaction and kind of operation, without keys
)

// Operation is what a statement does to a table: what a watch announces, and what [pghub.Change] says.
type Operation = pghub.Operation

// The operations that a watch can announce.
const (
	Insert   = pghub.Insert
	Update   = pghub.Update
	Delete   = pghub.Delete
	Truncate = pghub.Truncate
)

// Watch declares which changes of a table become events: a call of pghub.watch, whose options these are. All but Table
// may be left out. README.md has the events that come of it.
type Watch struct {
	Table      string      // as SQL writes it: people, sales.orders, "Mixed Case" in double quotes; see pgx.Identifier.Sanitize
	Topic      string      // "": the table's name, with its schema's in front unless that is public: sales.orders
	Level      Level       // "": Row
	Operations []Operation // nil: all four
	Name       string      // tells several watches of one table apart; "": "watch"
	Durable    bool        // into the stream, and not by NOTIFY: see package stream. Not for level Change
	Generation int         // an Apply of a lower one leaves the watch alone; raise it with every change that old programs must not undo

	// For level Row only.
	Of        []string // updates: only those that set one of these columns; nil: all
	Include   []string // the columns to announce; nil: all
	Exclude   []string // the columns to leave out
	Old       bool     // updates: with the row as it was
	Changed   bool     // updates: with the names of the columns that have new values
	Condition string   // SQL on NEW and OLD, as in CREATE TRIGGER … WHEN; "": none. Code: never build it from input
}

// call returns a call of pghub.watch or pghub.plan and its arguments. What is not set is left to the function's defaults.
func (w Watch) call(function string) (string, []any) {
	call, args := "pghub."+function+"($1::text::regclass", []any{w.Table}
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
	if w.Generation != 0 {
		set("generation", "integer", w.Generation)
	}
	if w.Durable {
		set("durable", "boolean", true)
	}
	if w.Old {
		set("old", "boolean", true)
	}
	if w.Changed {
		set("changed", "boolean", true)
	}
	return call + ")", args
}
