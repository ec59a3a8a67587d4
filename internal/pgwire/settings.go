package pgwire

import (
	"fmt"
	"strings"
)

// Settings returns a list for SELECT that has the server keep a session that is idle for good reason, and end one whose
// client is not there any more, or is stopped: such a one would keep a place, and what it has not been sent would keep the
// notification queue from being emptied, which is of all databases together. Settings that params has are left as they are;
// so are those of the role or the database that are stricter. See
// https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-CONNECTION-SETTINGS.
func Settings(params map[string]string) string {
	list := []string{`CASE WHEN pg_catalog.current_setting('idle_session_timeout', true) IS NOT NULL ` + // PostgreSQL 14 and later have it
		`THEN pg_catalog.set_config('idle_session_timeout', '0', false) END`}
	for _, setting := range []struct {
		name string
		most int
	}{
		{"tcp_user_timeout", 60_000}, // ms in which the client takes nothing of what it is sent
		{"tcp_keepalives_idle", 30},  // s without a sign of the client, until it is asked
		{"tcp_keepalives_interval", 10},
		{"tcp_keepalives_count", 3},
	} {
		if _, given := params[setting.name]; !given {
			list = append(list, fmt.Sprintf(`CASE WHEN pg_catalog.current_setting('%s')::pg_catalog.int4 NOT BETWEEN 1 AND %d `+
				`THEN pg_catalog.set_config('%[1]s', '%[2]d', false) END`, setting.name, setting.most))
		}
	}
	return strings.Join(list, ", ")
}
