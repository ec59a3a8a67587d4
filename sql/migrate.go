package sql

import (
	"embed"
	"strings"
)

// Migration is one step of schema pghub, for a tool that keeps a list of its own, such as goose, Atlas or Flyway.
type Migration struct {
	Version int    // from 1
	Name    string // as in 0002_notify: version, underscore, what it brings
	Up      string // SQL: one statement, that does nothing where it has been run. Run in the order of versions
	Down    string // SQL that takes it back: version 1's removes all of pghub, the others' do nothing
}

// Files is the SQL of this package as files: migrations/0000_check.sql, migrations/0001_schema.sql and so on, and
// uninstall.sql.
func Files() embed.FS { return files }

// Migrations returns the steps of schema pghub in their order. Whoever runs them need not call [Install], which finds
// them applied; what Install checks first (that schema pghub is nobody's trap) is part of the first.
//
// There is no way back from a version to the one before: a later one serves what the earlier one made. So the way down does
// nothing until it comes to version 1, where it removes pghub with all watches.
func Migrations() []Migration {
	steps, err := load(files)
	if err != nil {
		panic(err) // the files are part of the program
	}
	list := make([]Migration, len(steps))
	for i, step := range steps {
		name := strings.TrimSuffix(strings.TrimPrefix(step.name, "migrations/"), ".sql")
		list[i] = Migration{Version: step.version, Name: name, Up: step.text}
		list[i].Down = "SELECT 1; -- what this version brought goes with version 1\n"
	}
	list[0].Up = check + list[0].Up
	list[0].Down = uninstall
	return list
}
