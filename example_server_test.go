package pghub_test

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// TestServerForExamples leaves the examples out, which cannot skip themselves, where tests are skipped for lack of a
// server. It runs before them.
func TestServerForExamples(t *testing.T) {
	defer func() {
		if t.Skipped() {
			_ = flag.Set("test.skip", "^Example") // the flag exists
		}
	}()
	pgtest.Shared(t)
}

// openPool returns a pool on a fresh database.
func openPool() (pool *pgxpool.Pool, end func()) {
	tb := &exampleTB{}
	return pgtest.Pool(tb, pgtest.Database(tb)), tb.end
}

// openHub returns a hub on a fresh database. It is started, and may be stopped by the example.
func openHub() (hub *pghub.Hub, pool *pgxpool.Pool, end func()) {
	pool, closePool := openPool()
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err == nil {
		err = hub.Start(context.Background())
	}
	if err != nil {
		panic(err)
	}
	return hub, pool, func() {
		_ = hub.Stop(context.Background()) // the context does not end
		closePool()
	}
}

// exampleTB is the testing.TB that an Example function does not have, as far as pgtest needs it.
type exampleTB struct {
	testing.TB // for the method that keeps others from implementing it; nil
	cleanups   []func()
}

func (tb *exampleTB) Helper()                  {}
func (tb *exampleTB) Context() context.Context { return context.Background() }
func (tb *exampleTB) Cleanup(f func())         { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) Error(args ...any)        { panic(fmt.Sprint(args...)) }
func (tb *exampleTB) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

func (tb *exampleTB) Skipf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (tb *exampleTB) end() {
	for len(tb.cleanups) > 0 {
		last := len(tb.cleanups) - 1
		f := tb.cleanups[last]
		tb.cleanups = tb.cleanups[:last]
		f()
	}
}
