package fakepg

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// query executes one simple query once it is neither held nor frozen. Unless they say otherwise, all its statements are
// one transaction.
func (ss *session) query(sql string) {
	s := ss.server
	if resp := ss.admit(sql); resp != nil {
		s.change(func() { ss.refuseLocked(resp) })
		return
	}
	statements, resp := ss.parse(sql)
	if resp == nil && len(statements) == 0 {
		s.change(func() { ss.answerLocked(&pgproto3.EmptyQueryResponse{}) })
	}
	for _, st := range statements {
		var p *plan
		s.mu.Lock()
		p, resp = ss.planLocked(sql, st)
		s.mu.Unlock()
		var args *arguments
		if resp == nil {
			args, resp = ss.bind(p, &pgproto3.Bind{})
		}
		if resp == nil {
			resp = ss.perform(p, args, nil, true)
		}
		if resp != nil {
			break
		}
	}
	s.change(func() {
		ss.thawLocked()
		if resp != nil {
			ss.refuseLocked(resp)
			return
		}
		ss.readyLocked()
	})
}

// parse splits a query into statements, or says what is wrong with it.
func (ss *session) parse(sql string) ([]statement, *pgproto3.ErrorResponse) {
	if resp := checkText([]byte(sql)); resp != nil {
		return nil, resp
	}
	statements, err := parse(sql)
	if err != nil {
		return nil, fail("42601", err.Error())
	}
	return statements, nil
}

// admit waits until a query is neither held nor frozen. It returns why the query is refused, if it is.
func (ss *session) admit(sql string) *pgproto3.ErrorResponse {
	s := ss.server
	ss.waitHolds(sql)
	s.mu.Lock()
	ss.thawLocked()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse == nil {
		return nil
	}
	if resp := refuse(sql); resp != nil {
		return withSeverity(resp, "ERROR")
	}
	return nil
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

// thawLocked waits while the session is frozen.
func (ss *session) thawLocked() {
	for ss.frozenLocked() && ss.state == live {
		ss.server.cond.Wait()
	}
}

// refuseLocked answers a simple query with an error.
func (ss *session) refuseLocked(resp *pgproto3.ErrorResponse) {
	if ss.failedLocked(resp) {
		ss.readyLocked()
	}
}

// failedLocked sends an error, which ends the transaction. It reports whether the connection goes on.
func (ss *session) failedLocked(resp *pgproto3.ErrorResponse) bool {
	if ss.state != live {
		return false
	}
	ss.abortLocked()
	if resp.Severity == "FATAL" || resp.Severity == "PANIC" {
		ss.failLocked(resp)
		return false
	}
	ss.answerLocked(resp)
	return true
}

// perform executes a statement and sends its rows. describes: nothing of it has been answered before, as it is in the
// simple protocol. It returns why it could not.
func (ss *session) perform(p *plan, args *arguments, formats []int16, describes bool) *pgproto3.ErrorResponse {
	s := ss.server
	var rows [][]any
	if p.ask != nil {
		s.mu.Lock()
		resp := ss.fitLocked(p)
		s.mu.Unlock()
		if resp != nil {
			return resp
		}
		var err error
		if rows, err = p.ask(args); err != nil {
			return asError(err)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.cond.Broadcast()
	ss.thawLocked()
	if ss.state != live {
		return nil // nobody reads an answer
	}
	if resp := ss.fitLocked(p); resp != nil {
		return resp
	}
	ss.busy = true
	if describes && p.notice != nil {
		ss.answerLocked(p.notice)
	}
	if describes && len(p.columns) > 0 {
		ss.answerLocked(describe(p.columns, formats))
	}
	r, resp := p.run(ss, args)
	if resp != nil {
		return resp
	}
	if p.ask != nil {
		r.rows, r.tag = rows, tagOf(r.tag, len(rows))
	}
	if r.notice != nil {
		ss.answerLocked(r.notice)
	}
	for _, values := range r.rows {
		if len(p.columns) == 0 {
			break // they are only counted
		}
		row, err := ss.row(p.columns, values, formats)
		if err != nil {
			return fail("XX000", err.Error())
		}
		ss.answerLocked(row)
	}
	ss.answerLocked(&pgproto3.CommandComplete{CommandTag: []byte(r.tag)})
	return nil
}

// fitLocked says why a statement cannot be executed in the transaction as it is.
func (ss *session) fitLocked(p *plan) *pgproto3.ErrorResponse {
	if ss.tx != nil && ss.tx.failed && !p.ends {
		return fail("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	}
	return nil
}
