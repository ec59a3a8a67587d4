package fakepg

import (
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// voidOID is the type of what pg_notify returns, which pgtype has no name for.
const voidOID = 2278

// function is something that a list of SELECT may contain.
type function struct {
	pattern pattern
	column  Column
	params  []uint32
	// value calls it, with what the pattern's parameters stand for. Server.mu is held.
	value func(ss *session, args *arguments, operands []operand) (any, *pgproto3.ErrorResponse)
}

var functions = []function{
	{
		mustPattern(`pg_notify($1, $2)`),
		Column{"pg_notify", voidOID},
		[]uint32{pgtype.TextOID, pgtype.TextOID},
		func(ss *session, args *arguments, operands []operand) (any, *pgproto3.ErrorResponse) {
			channel, payload := args.text(operands[0]), args.text(operands[1])
			return "", ss.notify(channel, payload)
		},
	},
	{
		mustPattern(`pg_is_in_recovery()`),
		Column{"pg_is_in_recovery", pgtype.BoolOID},
		nil,
		func(ss *session, _ *arguments, _ []operand) (any, *pgproto3.ErrorResponse) {
			return ss.server.standby, nil
		},
	},
	{
		mustPattern(`pg_backend_pid()`),
		Column{"pg_backend_pid", pgtype.Int4OID},
		nil,
		func(ss *session, _ *arguments, _ []operand) (any, *pgproto3.ErrorResponse) {
			pid := ss.pid
			if ss.server.backendPID != nil {
				pid = ss.server.backendPID(pid)
			}
			return int32(pid), nil
		},
	},
	{
		mustPattern(`set_config($1, $2, $3)`),
		Column{"set_config", pgtype.TextOID},
		[]uint32{pgtype.TextOID, pgtype.TextOID, pgtype.BoolOID},
		func(_ *session, args *arguments, operands []operand) (any, *pgproto3.ErrorResponse) {
			return args.text(operands[1]), nil
		},
	},
	{
		mustPattern(`1`),
		Column{"?column?", pgtype.Int4OID},
		nil,
		func(*session, *arguments, []operand) (any, *pgproto3.ErrorResponse) { return int32(1), nil },
	},
}

// unnested are the statements that send the notifications of two arrays.
var unnested = []struct {
	pattern pattern
	count   bool
}{
	{mustPattern(`SELECT count(pg_notify(t, p)) FROM unnest($1, $2) AS n(t, p)`), true},
	{mustPattern(`SELECT pg_notify(t, p) FROM unnest($1, $2) AS n(t, p)`), false},
	{mustPattern(`SELECT count(pg_notify(t, p)) FROM ROWS FROM (unnest($1), unnest($2)) AS n(t, p)`), true},
	{mustPattern(`SELECT pg_notify(t, p) FROM ROWS FROM (unnest($1), unnest($2)) AS n(t, p)`), false},
}

func selectPlan(st, plain statement) (*plan, *pgproto3.ErrorResponse) {
	for _, u := range unnested {
		operands, ok := u.pattern.match(plain)
		switch {
		case ok && qualifiesUnnest(st) && !slices.Contains(st, token{word, "rows"}):
			// With several arguments unnest is a piece of syntax, which has no schema.
			return nil, fail("42883", "function pg_catalog.unnest(text[], text[]) does not exist")
		case ok:
			return unnestPlan(operands, u.count), nil
		}
	}
	type call struct {
		*function
		operands []operand
	}
	p := &plan{}
	var calls []call
	for _, item := range plain[1:].items() {
		name := ""
		if n := len(item); n > 2 && item[n-2] == (token{word, "as"}) {
			name = item[n-1].text
			item = item[:n-2]
		}
		f, operands := findFunction(item)
		if f == nil {
			return nil, unknown(st)
		}
		column := f.column
		if name != "" {
			column.Name = name
		}
		p.columns = append(p.columns, column)
		p.takes(operands, f.params)
		calls = append(calls, call{f, operands})
	}
	p.run = func(ss *session, args *arguments) (result, *pgproto3.ErrorResponse) {
		row := make([]any, len(calls))
		for i, c := range calls {
			var resp *pgproto3.ErrorResponse
			if row[i], resp = c.value(ss, args, c.operands); resp != nil {
				return result{}, resp
			}
		}
		return result{tag: "SELECT 1", rows: [][]any{row}}, nil
	}
	return p, nil
}

// findFunction returns what an item of a list calls, and with what, or nil.
func findFunction(item statement) (*function, []operand) {
	if len(item) > 0 && item[0] == (token{word, "case"}) {
		// A setting that not every version has is changed so: CASE WHEN … THEN set_config(…) END.
		i := slices.Index(item, token{word, "set_config"})
		if i < 0 || item[len(item)-1] != (token{word, "end"}) {
			return nil, nil
		}
		f, operands := findFunction(item[i : len(item)-1])
		if f != nil {
			renamed := *f
			renamed.column.Name = "case"
			f = &renamed
		}
		return f, operands
	}
	for i := range functions {
		if operands, ok := functions[i].pattern.match(item); ok {
			return &functions[i], operands
		}
	}
	return nil, nil
}

func qualifiesUnnest(st statement) bool {
	for i := 2; i < len(st); i++ {
		if st[i] == (token{word, "unnest"}) && st[i-1] == (token{symbol, "."}) {
			return true
		}
	}
	return false
}

// takes notes the types of the parameters among operands.
func (p *plan) takes(operands []operand, types []uint32) {
	for i, op := range operands {
		if op.param > len(p.params) {
			p.params = slices.Grow(p.params, op.param-len(p.params))[:op.param]
		}
		if op.param > 0 && i < len(types) {
			p.params[op.param-1] = types[i]
		}
	}
}

func unnestPlan(operands []operand, count bool) *plan {
	p := &plan{columns: []Column{{"pg_notify", voidOID}}}
	if count {
		p.columns = []Column{{"count", pgtype.Int8OID}}
	}
	p.takes(operands, []uint32{pgtype.TextArrayOID, pgtype.TextArrayOID})
	p.run = func(ss *session, args *arguments) (result, *pgproto3.ErrorResponse) {
		channels, resp := args.texts(operands[0])
		if resp != nil {
			return result{}, resp
		}
		payloads, resp := args.texts(operands[1])
		if resp != nil {
			return result{}, resp
		}
		n := max(len(channels), len(payloads))
		r := result{rows: [][]any{}}
		for i := range n {
			var channel, payload string // the shorter array is filled up with NULL, which pg_notify takes for ''
			if i < len(channels) {
				channel = channels[i].String
			}
			if i < len(payloads) {
				payload = payloads[i].String
			}
			if resp := ss.notify(channel, payload); resp != nil {
				return result{}, resp
			}
			r.rows = append(r.rows, []any{""})
		}
		if count {
			r.rows = [][]any{{int64(n)}}
		}
		r.tag = fmt.Sprintf("SELECT %d", len(r.rows))
		return r, nil
	}
	return p
}

// notify is pg_notify.
func (ss *session) notify(channel, payload string) *pgproto3.ErrorResponse {
	if ss.server.standby {
		return fail("25006", "cannot execute NOTIFY during recovery")
	}
	if resp := checkNotification(channel, payload); resp != nil {
		return resp
	}
	tx := ss.txLocked()
	tx.notifications = append(tx.notifications, notification{channel, payload})
	return nil
}
