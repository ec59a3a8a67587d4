package fakepg

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		sql  string
		want []statement
	}{
		{``, nil},
		{` ; ;; `, nil},
		{"-- ping", nil},
		{"-- one\nSELECT 1 -- two", []statement{{{word, "select"}, {word, "1"}}}},
		{`LISTEN Foo`, []statement{{{word, "listen"}, {word, "foo"}}}},
		{`listen"Foo"`, []statement{{{word, "listen"}, {quoted, "Foo"}}}},
		{`LISTEN "a;""b""'--";UNLISTEN *;`, []statement{
			{{word, "listen"}, {quoted, `a;"b"'--`}},
			{{word, "unlisten"}, {symbol, "*"}},
		}},
		{`NOTIFY été, 'it''s'`, []statement{{{word, "notify"}, {word, "été"}, {symbol, ","}, {literal, "it's"}}}},
		{`SELECT ''`, []statement{{{word, "select"}, {literal, ""}}}},
	} {
		got, err := parse(tt.sql)
		require.NoError(t, err, tt.sql)
		assert.Equal(t, tt.want, got, tt.sql)
	}
	for _, sql := range []string{`LISTEN "`, `LISTEN "a""`, `NOTIFY a, 'b`, `LISTEN ""`} {
		_, err := parse(sql)
		assert.Error(t, err, sql)
	}
}

func FuzzParseQuotedNames(f *testing.F) {
	f.Add("a", "b")
	f.Add(`"`, `;"--'`)
	f.Add("\n", "\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		// pgx, too, leaves out NUL, which cannot be part of a query.
		a, b = strings.ReplaceAll(a, "\x00", ""), strings.ReplaceAll(b, "\x00", "")
		if a == "" || b == "" {
			return
		}
		got, err := parse("LISTEN " + pgx.Identifier{a}.Sanitize() + ";UNLISTEN " + pgx.Identifier{b}.Sanitize())
		require.NoError(t, err)
		require.Equal(t, []statement{{{word, "listen"}, {quoted, a}}, {{word, "unlisten"}, {quoted, b}}}, got)
	})
}
