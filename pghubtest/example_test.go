package pghubtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/pghubtest"
)

// A handler under test: it keeps the latest price of each product.
type prices struct {
	latest  map[int64]int
	loaded  int
	changed chan struct{} // after each change
}

func newPrices(ctx context.Context, hub *pghub.Hub) (*prices, error) {
	p := &prices{latest: map[int64]int{}, changed: make(chan struct{}, 100)}
	_, err := hub.Consumer(ctx, p.handle, &pghub.ConsumerConfig{Topics: []string{"prices"}, Resync: p.load})
	return p, err
}

func (p *prices) handle(_ context.Context, ev *pghub.Event) {
	if ev.Advisory != nil {
		return
	}
	if price, err := pghub.Decode[int](ev); err == nil {
		p.latest[ev.Key[0]] = price
		p.changed <- struct{}{}
	}
}

// load reads everything again where events may be missing.
func (p *prices) load(context.Context, pghub.Gap) error {
	p.loaded++
	p.changed <- struct{}{}
	return nil
}

// A handler is tested with events from "another process", and with a connection that is lost. (In a test of your own
// "test" is not needed: it stands for func TestPrices(t *testing.T).)
func Example() {
	test(func(t *testing.T) {
		srv := pghubtest.New(t)
		p, err := newPrices(t.Context(), srv.Hub())
		if err != nil {
			t.Fatal(err)
		}

		srv.Publish("prices", []int64{7}, 99)
		<-p.changed
		fmt.Println("product 7:", p.latest[7])

		srv.Disconnect()
		<-p.changed
		fmt.Println("loaded again:", p.loaded)
	})
	// Output:
	// product 7: 99
	// loaded again: 1
}

// What the code under test publishes can be looked at, event by event.
func ExampleServer_Published() {
	test(func(t *testing.T) {
		srv := pghubtest.New(t)
		hub, ctx := srv.Hub(), t.Context()

		_ = hub.Notify(ctx, "orders", []int64{1}, map[string]string{"state": "new"})
		_ = pgx.BeginFunc(ctx, srv.Pool(), func(tx pgx.Tx) error {
			_ = hub.NotifyTx(ctx, tx, "orders", []int64{2}, nil)
			return errors.New("rolled back")
		})

		for _, n := range srv.Published() {
			ev, err := n.Event()
			fmt.Println(n.Topic, ev.Key, string(ev.Value), err)
		}
	})
	// Output:
	// orders [1] {"state":"new"} <nil>
}

// In a bubble of testing/synctest the server hangs for a minute in no time: what the hub's probe does then is as it would
// be in a real minute.
func ExampleServer_Stall() {
	test(func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := pghubtest.New(t) // inside the bubble
			hub, start := srv.Hub(), time.Now()
			_, err := hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
				if a := ev.Advisory; a != nil && a.Action != pghub.ActionStop {
					fmt.Printf("%s after about %v\n", a.Action, time.Since(start).Round(5*time.Second))
				}
			}, &pghub.ConsumerConfig{Topics: []string{"prices"}})
			if err != nil {
				t.Fatal(err)
			}

			srv.Stall()
			time.Sleep(time.Minute)
			fmt.Println(hub.State() == pghub.StateListening)
			srv.Resume()
			srv.AwaitListen("prices")
			synctest.Wait() // until the handler has heard of it
		})
	})
	// Output:
	// subscribe after about 0s
	// disconnect after about 15s
	// false
	// reconnect after about 1m0s
}

// Code that also queries tables gets answers that the test gives.
func ExampleServer_Handle() {
	test(func(t *testing.T) {
		srv := pghubtest.New(t)
		srv.Handle(`SELECT name FROM users WHERE id = $1`, []pghubtest.Column{{Name: "name", OID: pgtype.TextOID}},
			func(args [][]byte) ([][]any, error) {
				if string(args[0]) != "1" {
					return nil, nil // no rows
				}
				return [][]any{{"Ada"}}, nil
			})

		var name string
		err := srv.Pool().QueryRow(t.Context(), `SELECT name FROM users WHERE id = $1`, 1).Scan(&name)
		fmt.Println(name, err)
		err = srv.Pool().QueryRow(t.Context(), `SELECT name FROM users WHERE id = $1`, 2).Scan(&name)
		fmt.Println(err)

		var unknown *pgconn.PgError
		_, err = srv.Pool().Exec(t.Context(), `DELETE FROM users`)
		fmt.Println(errors.As(err, &unknown), unknown.Code, unknown.Message)
	})
	// Output:
	// Ada <nil>
	// no rows in result set
	// true 0A000 pghubtest does not know this statement: delete from users
}
