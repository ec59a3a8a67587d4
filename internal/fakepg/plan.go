package fakepg

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// plan is what a statement is going to do; it is made before the statement's arguments are known.
type plan struct {
	sql     string // as it came
	empty   bool   // there is no statement
	params  []uint32
	columns []Column                 // of its rows; none: it returns no rows
	ends    bool                     // it may end a failed transaction
	notice  *pgproto3.NoticeResponse // of the parser
	// ask is the answer of a statement that Handle was told of. It runs without any lock, before run.
	ask func(args *arguments) ([][]any, error)
	// run does what the statement says. Server.mu is held.
	run func(ss *session, args *arguments) (result, *pgproto3.ErrorResponse)
}

// result is the answer to a statement.
type result struct {
	tag    string
	rows   [][]any
	notice *pgproto3.NoticeResponse
}

// Column is a column of an answer: its name, and the OID of its type, such as pgtype.TextOID.
type Column struct {
	Name string
	OID  uint32
}

// planLocked makes the plan of a statement, or says why there is none.
func (ss *session) planLocked(sql string, st statement) (*plan, *pgproto3.ErrorResponse) {
	plain := st.plain()
	p, resp := ss.server.foreignLocked(plain)
	if p == nil && resp == nil {
		p, resp = ss.ownPlan(st, plain)
	}
	if p != nil {
		p.sql = sql
	}
	return p, resp
}

// ownPlan makes the plan of a statement that every server knows.
func (ss *session) ownPlan(st, plain statement) (*plan, *pgproto3.ErrorResponse) {
	rest := plain[1:]
	switch verb := plain.verb(); verb {
	case "listen", "unlisten", "notify":
		return channelPlan(verb, st[1:])
	case "begin", "start":
		return blockPlan(func(ss *session) (result, *pgproto3.ErrorResponse) { return ss.beginBlock(strings.ToUpper(verb)) }), nil
	case "commit", "end":
		return endPlan((*session).commitBlock), nil
	case "rollback", "abort":
		if i := slices.Index(rest, token{word, "to"}); i >= 0 {
			return savepointPlan("ROLLBACK", rest[i+1:], (*transaction).rollbackTo, true)
		}
		return endPlan((*session).rollbackBlock), nil
	case "savepoint":
		return savepointPlan("SAVEPOINT", rest, func(tx *transaction, name string) bool { tx.save(name); return true }, false)
	case "release":
		return savepointPlan("RELEASE", rest, (*transaction).release, false)
	case "set", "reset":
		return constantPlan(strings.ToUpper(verb)), nil
	case "show":
		return showPlan(st, rest)
	case "discard":
		return discardPlan(), nil
	case "deallocate":
		return deallocatePlan(rest), nil
	case "select":
		return selectPlan(st, plain)
	}
	return nil, unknown(st)
}

func constantPlan(tag string) *plan {
	return &plan{run: func(*session, *arguments) (result, *pgproto3.ErrorResponse) { return result{tag: tag}, nil }}
}

func showPlan(st, rest statement) (*plan, *pgproto3.ErrorResponse) {
	if len(rest) != 1 || rest[0] != (token{word, "transaction_read_only"}) {
		return nil, unknown(st)
	}
	return &plan{
		columns: []Column{{"transaction_read_only", pgtype.TextOID}},
		run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
			return result{tag: "SHOW", rows: [][]any{{choose(ss.server.standby, "on", "off")}}}, nil
		},
	}, nil
}

func discardPlan() *plan {
	return &plan{run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
		tx := ss.txLocked()
		tx.changes = append(tx.changes, listening{})
		clear(ss.prepared)
		return result{tag: "DISCARD ALL"}, nil
	}}
}

func deallocatePlan(rest statement) *plan {
	return &plan{run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
		name := rest[len(rest)-1]
		if name == (token{word, "all"}) {
			clear(ss.prepared)
			return result{tag: "DEALLOCATE ALL"}, nil
		}
		if _, found := ss.prepared[name.text]; !found {
			return result{}, fail("26000", fmt.Sprintf("prepared statement %q does not exist", name.text))
		}
		delete(ss.prepared, name.text)
		return result{tag: "DEALLOCATE"}, nil
	}}
}

// channelPlan is the plan of LISTEN, UNLISTEN or NOTIFY, and of what follows that word.
func channelPlan(verb string, rest statement) (*plan, *pgproto3.ErrorResponse) {
	if verb == "unlisten" && len(rest) == 1 && rest[0] == (token{symbol, "*"}) {
		return changePlan("UNLISTEN", func(tx *transaction) { tx.changes = append(tx.changes, listening{}) }), nil
	}
	name, err := rest.name()
	if err != nil {
		return nil, fail("42601", err.Error())
	}
	name, notice := truncated(name)
	payload := ""
	switch {
	case verb == "notify" && len(rest) == 3 && rest[1] == (token{symbol, ","}) && rest[2].kind == literal:
		payload = rest[2].text
	case len(rest) > 1:
		return nil, fail("42601", fmt.Sprintf("syntax error at or near %q", rest[1].text))
	}
	p := changePlan(strings.ToUpper(verb), func(tx *transaction) {
		switch verb {
		case "notify":
			tx.notifications = append(tx.notifications, notification{name, payload})
		default:
			tx.changes = append(tx.changes, listening{verb == "listen", name})
		}
	}, func() *pgproto3.ErrorResponse {
		if verb == "notify" {
			return checkNotification(name, payload)
		}
		return nil
	})
	p.notice = notice
	return p, nil
}

// changePlan is the plan of a statement that changes something, if the checks say nothing against it.
func changePlan(tag string, change func(*transaction), checks ...func() *pgproto3.ErrorResponse) *plan {
	return &plan{run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
		if ss.server.standby && tag != "UNLISTEN" {
			return result{}, fail("25006", fmt.Sprintf("cannot execute %s during recovery", tag))
		}
		for _, check := range checks {
			if resp := check(); resp != nil {
				return result{}, resp
			}
		}
		change(ss.txLocked())
		return result{tag: tag}, nil
	}}
}

const (
	maxName    = 63   // NAMEDATALEN - 1
	maxPayload = 7999 // NOTIFY_PAYLOAD_MAX_LENGTH - 1
)

// checkNotification refuses what PostgreSQL refuses.
func checkNotification(channel, payload string) *pgproto3.ErrorResponse {
	switch {
	case channel == "":
		return fail("22023", "channel name cannot be empty")
	case len(channel) > maxName:
		return fail("22023", "channel name too long")
	case len(payload) > maxPayload:
		return fail("22023", "payload string too long")
	}
	return nil
}

// truncated cuts a name at 63 bytes, between two characters, as PostgreSQL does with identifiers, and gives notice of it.
func truncated(name string) (string, *pgproto3.NoticeResponse) {
	if len(name) <= maxName {
		return name, nil
	}
	n := maxName
	for n > 0 && name[n]&0xc0 == 0x80 {
		n--
	}
	return name[:n], notice("NOTICE", "42622", fmt.Sprintf("identifier %q will be truncated to %q", name, name[:n]))
}

func notice(severity, code, message string) *pgproto3.NoticeResponse {
	return &pgproto3.NoticeResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: message}
}

const understood = "LISTEN, UNLISTEN, NOTIFY, SELECT pg_notify(…), SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p), " +
	"BEGIN, COMMIT, ROLLBACK, SAVEPOINT, SET, SELECT 1"

func unknown(st statement) *pgproto3.ErrorResponse {
	resp := fail("0A000", "pghubtest does not know this statement: "+st.String())
	resp.Detail = "It understands " + understood + "."
	resp.Hint = "Give it an answer with Handle, or use a real PostgreSQL."
	return resp
}
