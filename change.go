package pghub

import (
	"encoding/json"
	"iter"
	"slices"
)

// Change is the value of an event that a trigger of pghub.watch sends; see package sql and its README, which says what
// each level announces. [Decode] makes it of an event:
//
//	change, err := pghub.Decode[pghub.Change](ev)
//
// What a level does not announce is zero. A row's values are as PostgreSQL's to_jsonb writes them, numbers with all
// their digits: decode Row into a struct of your own, or with [json.Decoder.UseNumber].
type Change struct {
	Op     string `json:"op,omitempty"` // insert, update, delete or truncate; "" at level change
	Schema string `json:"schema"`
	Table  string `json:"table"`
	Seq    int64  `json:"seq,omitempty"` // number among the events that triggers sent in this transaction, from 1

	// Level row.
	ID        json.RawMessage `json:"id,omitempty"`        // the primary key, an object of all its columns
	OldID     json.RawMessage `json:"old_id,omitempty"`    // of an update that changed it: what it was
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

	// Level change.
	Action string `json:"action,omitempty"` // INSERT, UPDATE, DELETE or TRUNCATE
}

// Keys goes through the keys of the rows that an event of level statement announces: slices of Width integers of the
// event's Key, which is what to pass.
func (c *Change) Keys(key []int64) iter.Seq[[]int64] { return slices.Chunk(key, max(c.Width, 1)) }
