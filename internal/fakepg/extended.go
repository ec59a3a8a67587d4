package fakepg

import (
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// portal is a statement with its arguments, ready to be executed.
type portal struct {
	plan    *plan
	args    *arguments
	formats []int16 // of its rows
}

// extended executes a message of the extended protocol. After an error all messages up to the next Sync are skipped.
func (ss *session) extended(msg pgproto3.FrontendMessage) {
	if _, isSync := msg.(*pgproto3.Sync); isSync {
		ss.skipping = false
		ss.server.change(func() {
			ss.thawLocked()
			ss.readyLocked()
		})
		return
	}
	if ss.skipping {
		return
	}
	var resp *pgproto3.ErrorResponse
	switch msg := msg.(type) {
	case *pgproto3.Parse:
		resp = ss.prepare(msg)
	case *pgproto3.Bind:
		resp = ss.bindPortal(msg)
	case *pgproto3.Describe:
		resp = ss.describe(msg)
	case *pgproto3.Execute:
		resp = ss.executePortal(msg)
	case *pgproto3.Close:
		if msg.ObjectType == 'S' {
			delete(ss.prepared, msg.Name)
		} else {
			delete(ss.portals, msg.Name)
		}
		ss.answer(&pgproto3.CloseComplete{})
	}
	if resp != nil {
		ss.skipping = true
		ss.server.change(func() { ss.failedLocked(resp) })
	}
}

func (ss *session) answer(msgs ...pgproto3.BackendMessage) {
	ss.server.change(func() {
		ss.busy = true
		ss.answerLocked(msgs...)
	})
}

func (ss *session) prepare(msg *pgproto3.Parse) *pgproto3.ErrorResponse {
	statements, resp := ss.parse(msg.Query)
	if resp != nil {
		return resp
	}
	p := &plan{empty: true, sql: msg.Query}
	switch len(statements) {
	case 0:
	case 1:
		ss.server.mu.Lock()
		p, resp = ss.planLocked(msg.Query, statements[0])
		if resp == nil {
			resp = ss.fitLocked(p)
		}
		ss.server.mu.Unlock()
		if resp != nil {
			return resp
		}
		for i, oid := range msg.ParameterOIDs {
			if i < len(p.params) && oid != 0 {
				p.params[i] = oid
			}
		}
	default:
		return fail("42601", "cannot insert multiple commands into a prepared statement")
	}
	if _, taken := ss.prepared[msg.Name]; taken && msg.Name != "" {
		return fail("42P05", fmt.Sprintf("prepared statement %q already exists", msg.Name))
	}
	ss.prepared[msg.Name] = p
	if p.notice != nil {
		ss.answer(p.notice)
	}
	ss.answer(&pgproto3.ParseComplete{})
	return nil
}

func (ss *session) bindPortal(msg *pgproto3.Bind) *pgproto3.ErrorResponse {
	p, resp := ss.find(msg.PreparedStatement)
	if resp != nil {
		return resp
	}
	args, resp := ss.bind(p, msg)
	if resp != nil {
		return resp
	}
	ss.portals[msg.DestinationPortal] = &portal{p, args, msg.ResultFormatCodes}
	ss.answer(&pgproto3.BindComplete{})
	return nil
}

func (ss *session) find(name string) (*plan, *pgproto3.ErrorResponse) {
	p, found := ss.prepared[name]
	if !found {
		return nil, fail("26000", fmt.Sprintf("prepared statement %q does not exist", name))
	}
	return p, nil
}

func (ss *session) describe(msg *pgproto3.Describe) *pgproto3.ErrorResponse {
	if msg.ObjectType == 'S' {
		p, resp := ss.find(msg.Name)
		if resp != nil {
			return resp
		}
		ss.answer(&pgproto3.ParameterDescription{ParameterOIDs: slices.Clone(p.params)}, describe(p.columns, nil))
		return nil
	}
	bound, found := ss.portals[msg.Name]
	if !found {
		return noPortal(msg.Name)
	}
	ss.answer(describe(bound.plan.columns, bound.formats))
	return nil
}

func (ss *session) executePortal(msg *pgproto3.Execute) *pgproto3.ErrorResponse {
	bound, found := ss.portals[msg.Portal]
	if !found {
		return noPortal(msg.Portal)
	}
	sql := bound.plan.sql
	ss.server.change(func() { ss.server.queries = append(ss.server.queries, sql) })
	if resp := ss.admit(sql); resp != nil {
		return resp
	}
	if bound.plan.empty {
		ss.answer(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	return ss.perform(bound.plan, bound.args, bound.formats, false)
}

func noPortal(name string) *pgproto3.ErrorResponse {
	return fail("34000", fmt.Sprintf("portal %q does not exist", name))
}
