package pghubtest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/pghubtest"
)

// witness is a testing.TB that does not end its test.
type witness struct {
	testing.TB
	cleanups []func()
	said     []string
}

func (w *witness) Cleanup(f func())  { w.cleanups = append(w.cleanups, f) }
func (w *witness) Helper()           {}
func (w *witness) Error(args ...any) { w.said = append(w.said, fmt.Sprint(args...)) }

func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	panic(w)
}

func (w *witness) fails(f func()) (said []string) {
	defer func() {
		if v := recover(); v != nil && v != any(w) {
			panic(v)
		}
		said, w.said = w.said, nil
	}()
	f()
	return
}

func (w *witness) end() {
	for _, f := range w.cleanups {
		f()
	}
}

// What the kit cannot do fails the test, with a reason.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{TB: t}
		srv := pghubtest.New(w)
		require.Regexp(t, `only these topics are listened to: \[\]`, w.fails(func() { srv.AwaitListen("a") })[0])
		require.Regexp(t, `there are 0 notifications, not 1`, w.fails(func() { srv.AwaitPublished(1) })[0])
		require.Regexp(t, `ReconnectMin`, w.fails(func() { srv.NewHub(pghub.Config{ReconnectMin: -1}) })[0])
		require.Regexp(t, `one statement`, w.fails(func() { srv.Handle(`SELECT 1; SELECT 2`, nil, nil) })[0])
		require.Regexp(t, `UTF-8`, w.fails(func() { srv.Publish("a", nil, "\xff") })[0])
		srv.RefuseConnect(&pgconn.PgError{Code: "53300"})
		require.Regexp(t, `53300`, w.fails(func() { srv.NewHub(pghub.Config{}) })[0])
		srv.RefuseConnect(nil)
		require.Empty(t, w.fails(func() { srv.Hub() }))

		// A handler that does not come back, and a connection that is not given back.
		stuck := make(chan struct{})
		_, err := srv.Hub().Consumer(t.Context(), func(context.Context, *pghub.Event) { <-stuck }, &pghub.ConsumerConfig{Topics: []string{"a"}})
		require.NoError(t, err)
		conn, err := srv.Pool().Acquire(t.Context())
		require.NoError(t, err)
		srv.Stall()
		said := w.fails(w.end)
		require.Len(t, said, 2)
		require.Regexp(t, `a handler did not return`, said[0])
		require.Regexp(t, `was not given back`, said[1])
		close(stuck)
		conn.Release()
	})
}

func BenchmarkTest(b *testing.B) {
	for b.Loop() {
		w := &witness{TB: b}
		srv := pghubtest.New(w)
		came := make(chan struct{}, 1)
		_, err := srv.Hub().Consumer(b.Context(), func(_ context.Context, ev *pghub.Event) {
			if ev.Topic == "a" {
				came <- struct{}{}
			}
		}, &pghub.ConsumerConfig{Topics: []string{"a"}})
		require.NoError(b, err)
		require.NoError(b, srv.Hub().Notify(b.Context(), "a", nil, nil))
		<-came
		w.end()
	}
}
