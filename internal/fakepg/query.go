package fakepg

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// query executes one simple query once it is neither held nor frozen.
func (ss *session) query(sql string) {
	s := ss.server
	ss.waitHolds(sql)
	s.mu.Lock()
	ss.thawLocked()
	refuse := s.refuse
	s.mu.Unlock()

	var refused *pgproto3.ErrorResponse
	if refuse != nil {
		refused = refuse(sql)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	ss.thawLocked()
	if ss.state != live {
		return
	}
	if refused != nil {
		ss.refuseLocked(withSeverity(refused, "ERROR"))
	} else {
		ss.runLocked(sql)
	}
	s.cond.Broadcast()
}

// waitHolds waits until every hold that matches sql is released.
func (ss *session) waitHolds(sql string) {
	s := ss.server
	s.mu.Lock()
	holds := slices.Clone(s.holds)
	s.mu.Unlock()
	for _, h := range holds {
		if !h.match(sql) {
			continue
		}
		s.mu.Lock()
		for !h.released && ss.state == live {
			s.cond.Wait()
		}
		s.mu.Unlock()
	}
}

// thawLocked waits while the server is frozen.
func (ss *session) thawLocked() {
	for ss.server.frozen && ss.state == live {
		ss.server.cond.Wait()
	}
}

// refuseLocked answers a query with an error.
func (ss *session) refuseLocked(resp *pgproto3.ErrorResponse) {
	if resp.Severity == "FATAL" || resp.Severity == "PANIC" {
		ss.failLocked(resp)
		return
	}
	ss.answerLocked(resp, ready())
}

// transaction gathers what the statements of one query want to change.
type transaction struct {
	channels      map[string]bool
	notifications []notification
	answers       []pgproto3.BackendMessage
}

type notification struct{ channel, payload string }

// runLocked executes all statements of a query as one implicit transaction, and answers it.
func (ss *session) runLocked(sql string) {
	statements, err := parse(sql)
	if err != nil {
		ss.refuseLocked(fail("42601", err.Error()))
		return
	}
	if len(statements) == 0 {
		ss.answerLocked(&pgproto3.EmptyQueryResponse{}, ready())
		return
	}
	tx := &transaction{channels: maps.Clone(ss.channels)}
	for _, st := range statements {
		if resp := ss.statementLocked(tx, st); resp != nil {
			ss.answerLocked(tx.answers...)
			ss.refuseLocked(resp)
			return
		}
	}
	ss.channels = tx.channels
	ss.answerLocked(tx.answers...)
	for _, n := range tx.notifications {
		ss.server.notifyLocked(ss.pid, n.channel, n.payload)
	}
	ss.answerLocked(ready())
}

// statementLocked executes one statement. It returns nil, or why not.
func (ss *session) statementLocked(tx *transaction, st statement) *pgproto3.ErrorResponse {
	standby := ss.server.standby
	switch verb := st.verb(); verb {
	case "listen", "unlisten", "notify":
		if standby && verb != "unlisten" {
			return fail("25006", fmt.Sprintf("cannot execute %s during recovery", strings.ToUpper(verb)))
		}
		if err := tx.channel(verb, st[1:]); err != nil {
			return fail("42601", err.Error())
		}
		tx.answers = append(tx.answers, complete(strings.ToUpper(verb)))
	case "set":
		tx.answers = append(tx.answers, complete("SET"))
	case "show":
		if !st.mentions("transaction_read_only") {
			return unknown(st)
		}
		tx.row(column{"transaction_read_only", pgtype.TextOID, choose(standby, "on", "off")})
		tx.answers = append(tx.answers, complete("SHOW"))
	case "select":
		if !ss.selectLocked(tx, st.unqualified()) {
			return unknown(st)
		}
		tx.answers = append(tx.answers, complete("SELECT 1"))
	default:
		return unknown(st)
	}
	return nil
}

// selectLocked answers the SELECTs that the server knows, and reports whether this is one.
func (ss *session) selectLocked(tx *transaction, st statement) bool {
	s := ss.server
	switch {
	case st.mentions("pg_is_in_recovery"):
		pid := ss.pid
		if s.backendPID != nil {
			pid = s.backendPID(pid)
		}
		tx.row(
			column{"pg_is_in_recovery", pgtype.BoolOID, choose(s.standby, "t", "f")},
			column{"pg_backend_pid", pgtype.Int4OID, fmt.Sprint(pid)},
			column{"set_config", pgtype.TextOID, "0"},
		)
	case st.isNotifyCall():
		tx.notifications = append(tx.notifications, notification{st[3].text, st[5].text})
		tx.row(column{"pg_notify", pgtype.TextOID, ""})
	case len(st) == 2 && st[1] == token{word, "1"}:
		tx.row(column{"?column?", pgtype.Int4OID, "1"})
	default:
		return false
	}
	return true
}

// channel executes what follows the verb of LISTEN, UNLISTEN or NOTIFY.
func (tx *transaction) channel(verb string, rest statement) error {
	if verb == "unlisten" && len(rest) == 1 && rest[0] == (token{symbol, "*"}) {
		clear(tx.channels)
		return nil
	}
	name, err := rest.name()
	if err != nil {
		return err
	}
	switch {
	case verb == "notify" && len(rest) == 3 && rest[1] == (token{symbol, ","}) && rest[2].kind == literal:
		tx.notifications = append(tx.notifications, notification{name, rest[2].text})
	case len(rest) > 1:
		return fmt.Errorf("syntax error at or near %q", rest[1].text)
	case verb == "notify":
		tx.notifications = append(tx.notifications, notification{name, ""})
	case verb == "listen":
		tx.channels[name] = true
	default:
		delete(tx.channels, name)
	}
	return nil
}

// column is a column of an answer with one row.
type column struct {
	name  string
	oid   uint32
	value string
}

// row answers with one row in text format.
func (tx *transaction) row(columns ...column) {
	var description pgproto3.RowDescription
	var data pgproto3.DataRow
	for _, c := range columns {
		description.Fields = append(description.Fields, pgproto3.FieldDescription{
			Name: []byte(c.name), DataTypeOID: c.oid, DataTypeSize: -1, TypeModifier: -1,
		})
		data.Values = append(data.Values, []byte(c.value))
	}
	tx.answers = append(tx.answers, &description, &data)
}

func complete(tag string) pgproto3.BackendMessage {
	return &pgproto3.CommandComplete{CommandTag: []byte(tag)}
}

func unknown(st statement) *pgproto3.ErrorResponse {
	return fail("0A000", "fakepg does not know this statement: "+st.String())
}
