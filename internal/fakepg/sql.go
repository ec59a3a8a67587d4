package fakepg

import (
	"errors"
	"fmt"
	"strings"
)

// kind is the kind of a token.
type kind int

const (
	word    kind = iota // keyword, bare name or number, in lower case
	quoted              // "name", unquoted
	literal             // 'text', unquoted
	symbol              // any other character
)

type token struct {
	kind kind
	text string
}

// statement is the tokens of one SQL statement, at least one, without the semicolon.
type statement []token

// parse splits sql into its statements, leaving out empty ones.
func parse(sql string) ([]statement, error) {
	var all []statement
	var current statement
	for {
		sql = skipBlanks(sql)
		if sql == "" {
			break
		}
		t, rest, err := scan(sql)
		if err != nil {
			return nil, err
		}
		sql = rest
		if t != (token{symbol, ";"}) {
			current = append(current, t)
		} else if len(current) > 0 {
			all = append(all, current)
			current = nil
		}
	}
	if len(current) > 0 {
		all = append(all, current)
	}
	return all, nil
}

// skipBlanks removes white space and comments to the end of the line from the front of sql.
func skipBlanks(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v")
		if !strings.HasPrefix(sql, "--") {
			return sql
		}
		_, sql, _ = strings.Cut(sql, "\n")
	}
}

// scan takes the first token off sql, which is not empty.
func scan(sql string) (t token, rest string, err error) {
	switch c := sql[0]; {
	case c == '"':
		t.kind = quoted
		t.text, rest, err = unquote(sql)
		if err == nil && t.text == "" {
			err = errors.New(`zero-length delimited identifier at or near """"`)
		}
		return t, rest, err
	case c == '\'':
		t.kind = literal
		t.text, rest, err = unquote(sql)
		return t, rest, err
	case isWordByte(c):
		n := 1
		for n < len(sql) && isWordByte(sql[n]) {
			n++
		}
		return token{word, strings.ToLower(sql[:n])}, sql[n:], nil
	default:
		return token{symbol, sql[:1]}, sql[1:], nil
	}
}

// unquote takes a string off sql that begins and ends with the same quote; doubled, the quote stands for itself.
func unquote(sql string) (text, rest string, err error) {
	quote := sql[:1]
	rest = sql[1:]
	var b strings.Builder
	for {
		before, after, found := strings.Cut(rest, quote)
		if !found {
			return "", "", fmt.Errorf("unterminated quoted string at or near %q", sql)
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, quote) {
			return b.String(), after, nil
		}
		b.WriteString(quote)
		rest = after[1:]
	}
}

func isWordByte(c byte) bool {
	return c == '_' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// verb returns the first word, or "".
func (st statement) verb() string {
	if st[0].kind != word {
		return ""
	}
	return st[0].text
}

// mentions reports whether the bare name occurs.
func (st statement) mentions(name string) bool {
	for _, t := range st {
		if t == (token{word, name}) {
			return true
		}
	}
	return false
}

// name returns the channel name that the statement's first token is.
func (st statement) name() (string, error) {
	if len(st) == 0 {
		return "", errors.New("syntax error at end of input")
	}
	if st[0].kind != word && st[0].kind != quoted {
		return "", fmt.Errorf("syntax error at or near %q", st[0].text)
	}
	return st[0].text, nil
}

// unqualified leaves out the name of the system's schema before a name.
func (st statement) unqualified() (bare statement) {
	for i := 0; i < len(st); i++ {
		if st[i] == (token{word, "pg_catalog"}) && i+1 < len(st) && st[i+1] == (token{symbol, "."}) {
			i++
			continue
		}
		bare = append(bare, st[i])
	}
	return bare
}

// isNotifyCall reports whether this is SELECT pg_notify('channel', 'payload').
func (st statement) isNotifyCall() bool {
	return len(st) == 7 && st[1] == token{word, "pg_notify"} && st[2] == token{symbol, "("} &&
		st[3].kind == literal && st[4] == token{symbol, ","} && st[5].kind == literal && st[6] == token{symbol, ")"}
}

// String returns the statement's tokens for an error message.
func (st statement) String() string {
	var words []string
	for _, t := range st {
		words = append(words, t.text)
	}
	return strings.Join(words, " ")
}
