package fakepg

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// blockPlan is the plan of a statement that begins a transaction block.
func blockPlan(do func(*session) (result, *pgproto3.ErrorResponse)) *plan {
	return &plan{run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) { return do(ss) }}
}

// endPlan is the plan of a statement that ends one, also a failed one.
func endPlan(do func(*session) (result, *pgproto3.ErrorResponse)) *plan {
	p := blockPlan(do)
	p.ends = true
	return p
}

// savepointPlan is the plan of a statement about the savepoint that rest names.
func savepointPlan(tag string, rest statement, do func(tx *transaction, name string) bool, ends bool) (*plan, *pgproto3.ErrorResponse) {
	if len(rest) == 2 && rest[0] == (token{word, "savepoint"}) {
		rest = rest[1:]
	}
	name, err := rest.name()
	if err == nil && len(rest) > 1 {
		err = fmt.Errorf("syntax error at or near %q", rest[1].text)
	}
	if err != nil {
		return nil, fail("42601", err.Error())
	}
	return &plan{ends: ends, run: func(ss *session, _ *arguments) (result, *pgproto3.ErrorResponse) {
		tx := ss.txLocked()
		if !tx.block {
			return result{}, fail("25P01", tag+" can only be used in transaction blocks")
		}
		if !do(tx, name) {
			return result{}, fail("3B001", fmt.Sprintf("savepoint %q does not exist", name))
		}
		return result{tag: tag}, nil
	}}, nil
}

func (ss *session) beginBlock(verb string) (result, *pgproto3.ErrorResponse) {
	r := result{tag: "BEGIN"}
	if verb == "START" {
		r.tag = "START TRANSACTION"
	}
	if tx := ss.txLocked(); tx.block {
		r.notice = notice("WARNING", "25001", "there is already a transaction in progress")
	} else {
		tx.block = true
	}
	return r, nil
}

func (ss *session) commitBlock() (result, *pgproto3.ErrorResponse) {
	tx := ss.txLocked()
	switch {
	case tx.failed:
		ss.tx = nil
		return result{tag: "ROLLBACK"}, nil
	case !tx.block:
		return result{tag: "COMMIT", notice: noTransaction()}, nil
	}
	ss.commitLocked()
	return result{tag: "COMMIT"}, nil
}

func (ss *session) rollbackBlock() (result, *pgproto3.ErrorResponse) {
	r := result{tag: "ROLLBACK"}
	if !ss.txLocked().block {
		r.notice = noTransaction()
	}
	ss.tx = nil
	return r, nil
}

func noTransaction() *pgproto3.NoticeResponse {
	return notice("WARNING", "25P01", "there is no transaction in progress")
}
