package fakepg

import (
	"fmt"
	"slices"
	"strconv"
)

// pattern is a statement, or a part of one, whose parameters stand for values: for parameters or constants of the
// statement that it is compared with.
type pattern statement

// operand is a value of a statement: a parameter of its own, or a constant.
type operand struct {
	param int // 1 for $1; 0: a constant
	text  []byte
}

// newPattern parses the text of one statement.
func newPattern(sql string) (pattern, error) {
	statements, err := parse(sql)
	if err != nil {
		return nil, err
	}
	if len(statements) != 1 {
		return nil, fmt.Errorf("%q is not one statement", sql)
	}
	return pattern(statements[0].plain()), nil
}

func mustPattern(sql string) pattern {
	p, err := newPattern(sql)
	if err != nil {
		panic("fakepg: " + err.Error())
	}
	return p
}

// match compares a plain statement with the pattern, and returns what the pattern's $1, $2, … stand for in it.
func (p pattern) match(st statement) (operands []operand, ok bool) {
	for _, want := range p {
		if len(st) == 0 {
			return nil, false
		}
		if want.kind != param {
			if st[0] != want {
				return nil, false
			}
			st = st[1:]
			continue
		}
		op, length := st.operand()
		n, err := strconv.Atoi(want.text)
		if length == 0 || err != nil || n < 1 || n > maxParams {
			return nil, false
		}
		if n > len(operands) {
			operands = slices.Grow(operands, n-len(operands))[:n]
		}
		operands[n-1] = op
		st = st[length:]
	}
	return operands, len(st) == 0
}

const maxParams = 1<<16 - 1

// operand returns the value at the beginning of the statement, and of how many tokens it is; 0: there is none.
func (st statement) operand() (op operand, length int) {
	switch t := st[0]; {
	case t.kind == param:
		n, err := strconv.Atoi(t.text)
		if err != nil || n < 1 || n > maxParams {
			return operand{}, 0
		}
		return operand{param: n}, 1
	case t.kind == literal, isNumber(t), t == token{word, "true"}, t == token{word, "false"}:
		return operand{text: []byte(t.text)}, 1
	case t == token{word, "null"}:
		return operand{}, 1
	case t == token{symbol, "-"} && len(st) > 1 && isNumber(st[1]):
		return operand{text: []byte("-" + st[1].text)}, 2
	}
	return operand{}, 0
}

func isNumber(t token) bool {
	return t.kind == word && t.text[0] >= '0' && t.text[0] <= '9'
}

// plain returns the statement without casts (::type) and without the schema pg_catalog, which change nothing of what
// the server understands.
func (st statement) plain() statement {
	var plain statement
	for i := 0; i < len(st); i++ {
		switch {
		case st[i].text == "pg_catalog" && i+1 < len(st) && st[i+1] == token{symbol, "."}:
			i++
		case st[i] == token{symbol, ":"} && i+2 < len(st) && st[i+1] == token{symbol, ":"}:
			i = st.castEnd(i + 2)
		default:
			plain = append(plain, st[i])
		}
	}
	return plain
}

// castEnd returns the place of the last token of the type name that begins at place i.
func (st statement) castEnd(i int) int {
	if st[i].text == "pg_catalog" && i+2 < len(st) && st[i+1] == (token{symbol, "."}) {
		i += 2
	}
	if i+2 < len(st) && st[i+1] == (token{symbol, "["}) && st[i+2] == (token{symbol, "]"}) {
		i += 2
	}
	return i
}

// items splits the list that st is at its commas, but for those inside brackets.
func (st statement) items() []statement {
	var items []statement
	depth, start := 0, 0
	for i, t := range st {
		switch t {
		case token{symbol, "("}:
			depth++
		case token{symbol, ")"}:
			depth--
		case token{symbol, ","}:
			if depth == 0 {
				items = append(items, st[start:i])
				start = i + 1
			}
		}
	}
	return append(items, st[start:])
}
