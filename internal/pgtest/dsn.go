package pgtest

import (
	"fmt"
	"net/url"
	"strings"
)

// managedDSN names the maintenance database of a server of ours. Encryption is tried first if the server offers it.
func managedDSN(address string, encrypted bool) string {
	mode := "disable"
	if encrypted {
		mode = "prefer"
	}
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=%s", superuser, superuser, address, mode)
}

// withDatabase returns dsn with another database, in the form that dsn has: URL or keywords.
func withDatabase(dsn, database string) string {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		value := strings.ReplaceAll(strings.ReplaceAll(database, `\`, `\\`), "'", `\'`)
		return dsn + " dbname='" + value + "'" // the last one counts
	}
	parsed, err := url.Parse(dsn)
	if err != nil {
		return dsn // nothing can be connected to either
	}
	parsed.Path = "/" + database
	parsed.RawPath = ""
	if query := parsed.Query(); query.Has("dbname") {
		query.Del("dbname")
		parsed.RawQuery = query.Encode()
	}
	return parsed.String()
}
