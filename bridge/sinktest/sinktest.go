// Package sinktest has the tests that every sink of a bridge has to pass, whatever its broker is: see [Run].
package sinktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
)

// Broker is a broker with a sink for it.
type Broker struct {
	Sink bridge.Sink

	// Received gives the bodies of all messages that have arrived so far, in the order in which the broker has them.
	Received func() []string

	// Target of the messages. It may be empty, if the sink has one of its own.
	Target string
}

// patience is how long messages may take to arrive.
const patience = time.Minute

// Run tests a sink. open makes a broker with nothing in it for each test, and a sink for that.
func Run(t *testing.T, open func(t *testing.T) Broker) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *Broker){
		"order": order, "several at once": severalAtOnce, "an ended context": endedContext, "what is read only": readOnly, "after Close": afterClose,
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			test(t, &b)
		})
	}
}

// message is the n-th of a route.
func (b *Broker) message(route string, n int) *bridge.Message {
	at := pghub.Position{Tick: 1700000000000, Txn: int64(n), ID: int64(n)}
	return &bridge.Message{
		ID: route + at.String(), Position: at, Route: route, Topic: "topic", Key: []int64{int64(n)}, Target: b.Target,
		Headers: map[string]string{"Trace": "x"}, Body: fmt.Appendf(nil, `{"route":%q,"n":%d}`, route, n), ContentType: "application/json",
		Time: time.Unix(1700000000, 0),
	}
}

// send sends messages as a route does: what was not sent yet follows. Anything else is a failure.
func (b *Broker) send(ctx context.Context, batch []*bridge.Message) error {
	for len(batch) > 0 {
		err := b.Sink.Send(ctx, batch)
		var each bridge.Errors
		if err == nil || !errors.As(err, &each) {
			return err
		}
		var left []*bridge.Message
		for i, m := range batch {
			if each[i] == nil {
				continue
			}
			if !errors.Is(each[i], bridge.ErrNotSent) {
				return each[i]
			}
			left = append(left, m)
		}
		if len(left) == len(batch) {
			return err
		}
		batch = left
	}
	return nil
}

// await waits for so many messages.
func (b *Broker) await(t *testing.T, n int) []string {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // a broker tells nobody when it has more
		got := b.Received()
		if len(got) >= n {
			return got
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d messages have arrived", len(got), n)
		}
	}
}

// order: batches of any size arrive in their order, each message once.
func order(t *testing.T, b *Broker) {
	var want []string
	n := 0
	for _, size := range []int{1, 10, 100, 1} {
		var batch []*bridge.Message
		for range size {
			n++
			m := b.message("r", n)
			batch, want = append(batch, m), append(want, string(m.Body))
		}
		if err := b.send(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.await(t, n); !slices.Equal(want, got) {
		t.Fatalf("want %s\ngot  %s", want, got)
	}
}

// severalAtOnce: routes share a sink, and each is in order.
func severalAtOnce(t *testing.T, b *Broker) {
	const routes, batches, size = 4, 5, 5
	var all sync.WaitGroup
	for r := range routes {
		all.Go(func() {
			for n := range batches {
				var batch []*bridge.Message
				for i := range size {
					batch = append(batch, b.message(fmt.Sprint("r", r), n*size+i+1))
				}
				if err := b.send(t.Context(), batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	got := b.await(t, routes*batches*size)
	for r := range routes {
		route := fmt.Sprint("r", r)
		var want, have []string
		for n := range batches * size {
			want = append(want, string(b.message(route, n+1).Body))
		}
		for _, body := range got {
			if strings.Contains(body, `"`+route+`"`) {
				have = append(have, body)
			}
		}
		if !slices.Equal(want, have) {
			t.Errorf("route %s: want %s\ngot  %s", route, want, have)
		}
	}
}

// endedContext: Send gives up, and does not say that the messages are refused. Afterwards it works.
func endedContext(t *testing.T, b *Broker) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	batch := []*bridge.Message{b.message("r", 1)}
	if err := b.Sink.Send(ctx, batch); err == nil || bridge.IsRefused(err) {
		t.Fatalf("with a context that has ended Send says: %v", err)
	}
	if err := b.send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.await(t, 1)
}

// readOnly: the messages are as they were.
func readOnly(t *testing.T, b *Broker) {
	batch := []*bridge.Message{b.message("r", 1), b.message("r", 2)}
	if err := b.send(t.Context(), slices.Clone(batch)); err != nil {
		t.Fatal(err)
	}
	for i, m := range batch {
		if !reflect.DeepEqual(m, b.message("r", i+1)) {
			t.Errorf("message %d was changed: %+v", i+1, m)
		}
	}
}

// afterClose: nothing is sent any more.
func afterClose(t *testing.T, b *Broker) {
	if err := b.send(t.Context(), []*bridge.Message{b.message("r", 1)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Sink.Send(t.Context(), []*bridge.Message{b.message("r", 2)}); !errors.Is(err, bridge.ErrClosed) {
		t.Fatalf("behind Close Send says: %v", err)
	}
}
