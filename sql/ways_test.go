package sql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A trigger function has a short way and a long one, which it takes where the short one fails, as with a session's own
// pghub.seq that is no number. What they announce is the same to the byte.
func TestRowBothWaysAgree(t *testing.T) {
	many, names := "", "" // more columns than a call has arguments, if each takes three
	for i := range 32 {
		many += fmt.Sprintf(`k%d int DEFAULT %d, `, i, i)
		names += fmt.Sprintf(`, k%d`, i)
	}
	b := setUp(t, "t")
	b.do(`SET timezone = 'Asia/Tokyo'`)
	for name, columns := range map[string]string{
		"one integer":     `id bigint PRIMARY KEY, v text`,
		"not the first":   `v text, id int PRIMARY KEY`,
		"mixed":           `id int, v text, "a ""b" text DEFAULT 'x"', n smallint DEFAULT 7, PRIMARY KEY ("a ""b", id, n)`,
		"no integer":      `id text PRIMARY KEY, v text`,
		"none":            `id int, v text`,
		"many":            many + `id int, v text, PRIMARY KEY (` + names[2:] + `)`,
		"a time":          `id int PRIMARY KEY, v text, z timestamptz DEFAULT '2024-01-02 03:04:05+06'`,
		"json and others": `id int PRIMARY KEY, v text, j json DEFAULT '{"a" : 1}', f float8 DEFAULT 0.1, b bytea DEFAULT '\x00', z timestamptz DEFAULT '2024-01-02 03:04:05+06'`,
	} {
		for _, options := range []string{``, `, old => true, changed => true`, `, include => '{v,id}', old => true, changed => true`} {
			t.Run(name+options, func(t *testing.T) {
				b.do(`DROP TABLE IF EXISTS t; CREATE TABLE t (` + columns + `); SELECT pghub.watch('t'` + options + `)`)
				way := func(seq string) []string {
					for _, statement := range []string{
						`INSERT INTO t (id, v) VALUES ('1', 'é"\')`, `UPDATE t SET v = NULL`, `UPDATE t SET id = '2'`, `UPDATE t SET v = repeat('x', 9000)`,
						`UPDATE t SET id = '3'`, `DELETE FROM t`, `TRUNCATE t`,
					} {
						b.do(`SET pghub.seq = '` + seq + `'`)
						b.do(statement)
					}
					return b.heard()
				}
				short := way("")
				require.Len(t, short, 7)
				require.Equal(t, short, way("abc"))
			})
		}
	}
}
