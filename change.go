package pghub

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Operation is what was done to a table.
type Operation string

// The operations of a [Change]. The last two are not a row's: a DBA has silenced the watch, and has let it speak again.
// What happened in between was not announced, so Unmute is a gap: behind it Resync is called, where there is one.
const (
	Insert   Operation = "insert"
	Update   Operation = "update"
	Delete   Operation = "delete"
	Truncate Operation = "truncate"
	Mute     Operation = "mute"
	Unmute   Operation = "unmute"
)

// UnmarshalText takes the name in any case: level change writes INSERT.
func (o *Operation) UnmarshalText(text []byte) error {
	*o = Operation(strings.ToLower(string(text)))
	return nil
}

// Change is the value of an event that a trigger of pghub.watch sends; see package sql and its README, which says what
// each level announces. [Decode] makes it of an event:
//
//	change, err := pghub.Decode[pghub.Change](ev)
//	person, err := pghub.Row[Person](change)
//
// What a level does not announce is zero. A row's values are as PostgreSQL's row_to_json writes them, numbers with all
// their digits: decode them with [Row] into a struct of your own, or Row itself with [json.Decoder.UseNumber].
type Change struct {
	Op     Operation `json:"op,omitempty"` // at every level
	Schema string    `json:"schema"`
	Table  string    `json:"table"`
	Seq    int64     `json:"seq,omitempty"` // number among the events that triggers sent in this transaction, from 1

	// Level row.
	ID        json.RawMessage `json:"id,omitempty"`        // the primary key, an object of all its columns
	OldID     json.RawMessage `json:"old_id,omitempty"`    // of an update that changed it: what it was
	OldKey    []int64         `json:"old_key,omitempty"`   // of an update that changed the event's key: what that was
	Row       json.RawMessage `json:"row,omitempty"`       // as it is now; of a delete, as it was
	Old       json.RawMessage `json:"old,omitempty"`       // of an update, on request: as it was
	Changed   []string        `json:"changed,omitempty"`   // of an update, on request: columns with new values
	Truncated bool            `json:"truncated,omitempty"` // there was no room for all of it: fetch the row by key or ID

	// Level statement. The rows' keys are the event's Key, or else IDs.
	Count int64             `json:"count,omitempty"` // rows that the statement touched, in all parts together
	Part  int               `json:"part,omitempty"`  // of Parts, from 1
	Parts int               `json:"parts,omitempty"`
	Width int               `json:"width,omitempty"` // integers of a row's key; 0: one
	IDs   []json.RawMessage `json:"ids,omitempty"`   // the primary keys, where they are not all integers
}

// UnmarshalJSON reads what a trigger sent. What level change calls action is Op here.
func (c *Change) UnmarshalJSON(data []byte) error {
	type plain Change
	value := struct {
		*plain
		Action Operation `json:"action"`
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(data, &value); err != nil {
		return err
	}
	if value.Action != "" {
		c.Op = value.Action
	}
	return nil
}

// Keys goes through the keys of all rows that an event is about; key is the event's Key, which is what to pass. At level
// statement they are slices of Width integers of it; at level row it is the key, and of an update that changed it also
// the old one, so that a cache that drops what it has of each key forgets the row that is gone.
func (c *Change) Keys(key []int64) iter.Seq[[]int64] {
	if c.Part > 0 {
		return slices.Chunk(key, max(c.Width, 1))
	}
	return func(yield func([]int64) bool) {
		if len(key) > 0 && !yield(key) {
			return
		}
		if len(c.OldKey) > 0 {
			yield(c.OldKey)
		}
	}
}

// ErrNoRow is the answer of [Row], [OldRow] and [ID] where the event does not have what was asked for: it was
// truncated, or its level or operation has none.
var ErrNoRow = errors.New("pghub: the event has no such row")

// Row returns the row of a change at level row as a T: as it is now or, of a delete, as it was. [ErrNoRow] if it has none.
func Row[T any](c Change) (T, error) { return decodePart[T](c, "row", c.Row) }

// OldRow returns the row as it was before an update, which a watch announces on request. [ErrNoRow] if there is none.
func OldRow[T any](c Change) (T, error) { return decodePart[T](c, "old row", c.Old) }

// ID returns the primary key of a change at level row, an object of all its columns, as a T. [ErrNoRow] if there is none.
func ID[T any](c Change) (T, error) { return decodePart[T](c, "id", c.ID) }

func decodePart[T any](c Change, what string, text json.RawMessage) (value T, err error) {
	if text == nil {
		return value, fmt.Errorf("%w: %s of %s on %s.%s", ErrNoRow, what, c.Op, c.Schema, c.Table)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return value, fmt.Errorf("pghub: %s of %s.%s: %w", what, c.Schema, c.Table, err)
	}
	return value, nil
}
