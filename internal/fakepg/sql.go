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
	param               // $n, without the dollar
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

// skipBlanks removes white space and comments from the front of sql.
func skipBlanks(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql, "*/")
		default:
			return sql
		}
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
	case c == '$' && len(sql) > 1 && '0' <= sql[1] && sql[1] <= '9':
		n := wordLength(sql[1:])
		return token{param, sql[1 : 1+n]}, sql[1+n:], nil
	case isWordByte(c):
		n := wordLength(sql)
		return token{word, foldASCII(sql[:n])}, sql[n:], nil
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

func wordLength(sql string) int {
	n := 0
	for n < len(sql) && isWordByte(sql[n]) {
		n++
	}
	return n
}

// foldASCII turns A to Z into lower case, and no other letter, as a server does for a database in UTF-8.
func foldASCII(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, name)
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

// name returns the channel or savepoint name that the statement's first token is.
func (st statement) name() (string, error) {
	if len(st) == 0 {
		return "", errors.New("syntax error at end of input")
	}
	if st[0].kind != word && st[0].kind != quoted {
		return "", fmt.Errorf("syntax error at or near %q", st[0].text)
	}
	return st[0].text, nil
}

// String returns the statement's tokens for an error message.
func (st statement) String() string {
	var words []string
	for _, t := range st {
		switch t.kind {
		case quoted:
			words = append(words, `"`+strings.ReplaceAll(t.text, `"`, `""`)+`"`)
		case literal:
			words = append(words, "'"+strings.ReplaceAll(t.text, "'", "''")+"'")
		case param:
			words = append(words, "$"+t.text)
		default:
			words = append(words, t.text)
		}
	}
	return strings.Join(words, " ")
}
