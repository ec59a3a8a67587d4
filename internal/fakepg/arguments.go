package fakepg

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// arguments are the values of a statement's parameters, as they came.
type arguments struct {
	types   *pgtype.Map
	oids    []uint32
	formats []int16
	values  [][]byte // nil: NULL
}

// text returns a value of type text; NULL is "".
func (a *arguments) text(op operand) string {
	if op.param == 0 {
		return string(op.text)
	}
	return string(a.values[op.param-1])
}

// texts returns a value of type text[].
func (a *arguments) texts(op operand) (texts []pgtype.Text, resp *pgproto3.ErrorResponse) {
	value, format := op.text, int16(pgtype.TextFormatCode)
	if op.param > 0 {
		value, format = a.values[op.param-1], a.formats[op.param-1]
	}
	if err := a.types.Scan(pgtype.TextArrayOID, format, value, &texts); err != nil {
		return nil, fail("22P02", err.Error())
	}
	for _, text := range texts {
		if resp := checkText([]byte(text.String)); resp != nil {
			return nil, resp
		}
	}
	return texts, nil
}

// plainText returns a value in text form, or nil for NULL.
func (a *arguments) plainText(op operand) ([]byte, error) {
	if op.param == 0 {
		return op.text, nil
	}
	i := op.param - 1
	if a.values[i] == nil || a.formats[i] == pgtype.TextFormatCode || a.oids[i] == pgtype.TextOID {
		return a.values[i], nil
	}
	if _, known := a.types.TypeForOID(a.oids[i]); !known {
		return nil, fmt.Errorf("parameter $%d came in binary form and is of unknown type", op.param)
	}
	var v any
	if err := a.types.Scan(a.oids[i], a.formats[i], a.values[i], &v); err != nil {
		return nil, err
	}
	return a.types.Encode(a.oids[i], pgtype.TextFormatCode, v, nil)
}

// bind takes the arguments of a statement out of a message, or says why the server would not.
func (ss *session) bind(p *plan, msg *pgproto3.Bind) (*arguments, *pgproto3.ErrorResponse) {
	if len(msg.Parameters) != len(p.params) {
		return nil, fail("08P01", fmt.Sprintf("bind message supplies %d parameters, but the statement requires %d",
			len(msg.Parameters), len(p.params)))
	}
	a := &arguments{types: ss.types, oids: p.params, formats: make([]int16, len(p.params)), values: msg.Parameters}
	for i, value := range msg.Parameters {
		a.formats[i] = formatOf(msg.ParameterFormatCodes, i)
		if a.formats[i] == pgtype.TextFormatCode || p.params[i] == pgtype.TextOID {
			if resp := checkText(value); resp != nil {
				return nil, resp
			}
		}
	}
	return a, nil
}

// formatOf returns the format of the i-th of several values: there is one code for each, one for all, or none.
func formatOf(codes []int16, i int) int16 {
	switch {
	case len(codes) == 0:
		return pgtype.TextFormatCode
	case len(codes) == 1:
		return codes[0]
	case i < len(codes):
		return codes[i]
	}
	return pgtype.TextFormatCode
}

// checkText refuses what is no text for a server whose encoding is UTF-8.
func checkText(b []byte) *pgproto3.ErrorResponse {
	if i := bytes.IndexByte(b, 0); i >= 0 && utf8.Valid(b[:i]) {
		return fail("22021", `invalid byte sequence for encoding "UTF8": 0x00`)
	}
	if !utf8.Valid(b) {
		return fail("22021", `invalid byte sequence for encoding "UTF8"`)
	}
	return nil
}

// describe returns the description of columns, in the given formats.
func describe(columns []Column, formats []int16) pgproto3.BackendMessage {
	if len(columns) == 0 {
		return &pgproto3.NoData{}
	}
	var d pgproto3.RowDescription
	for i, c := range columns {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{
			Name: []byte(c.Name), DataTypeOID: c.OID, DataTypeSize: -1, TypeModifier: -1, Format: formatOf(formats, i),
		})
	}
	return &d
}

// row encodes a row.
func (ss *session) row(columns []Column, values []any, formats []int16) (*pgproto3.DataRow, error) {
	if len(values) != len(columns) {
		return nil, fmt.Errorf("a row of %d values for %d columns", len(values), len(columns))
	}
	var row pgproto3.DataRow
	for i, c := range columns {
		if s, isText := values[i].(string); isText && (c.OID == voidOID || c.OID == pgtype.TextOID) {
			row.Values = append(row.Values, []byte(s))
			continue
		}
		b, err := ss.types.Encode(c.OID, formatOf(formats, i), values[i], []byte{})
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", c.Name, err)
		}
		row.Values = append(row.Values, b)
	}
	return &row, nil
}
