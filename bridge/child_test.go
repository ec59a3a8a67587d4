package bridge_test

import (
	"context"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/hub"
	"github.com/pghub/pghub/bridge/webhook"
	"github.com/pghub/pghub/stream"
)

// A child is a process of its own: this test binary, started with a DSN in childEnv. It runs a bridge, and kills itself at the n-th
// Send of a route: childFatal has both, such as "hooks 3". Without it the child lives.
const (
	childEnv    = "PGHUB_BRIDGE_CHILD"
	childTarget = "PGHUB_BRIDGE_CHILD_TARGET"
	childURL    = "PGHUB_BRIDGE_CHILD_URL"
	childFatal  = "PGHUB_BRIDGE_CHILD_FATAL"
	childLease  = 300 * time.Millisecond
	childBatch  = 7
)

// child never returns.
func child(dsn string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	pool, err := pgxpool.New(ctx, dsn)
	fail(err)
	target, err := pgxpool.New(ctx, os.Getenv(childTarget))
	fail(err)
	h, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: time.Millisecond, ReconnectMax: 100 * time.Millisecond})
	fail(err)
	s, err := stream.Open(ctx, h, stream.Config{Lease: childLease})
	fail(err)
	fail(h.Start(ctx))
	hooks, err := webhook.New(webhook.Config{URL: os.Getenv(childURL)})
	fail(err)
	apart, err := webhook.New(webhook.Config{URL: os.Getenv(childURL) + "/lanes"})
	fail(err)
	mirror, err := hub.New(hub.Config{Pool: target, Name: "source", Stream: true})
	fail(err)
	route := func(name string, sink bridge.Sink, batch int) bridge.Route {
		if who, nth, _ := strings.Cut(os.Getenv(childFatal), " "); who == name {
			fatal, err := strconv.ParseInt(nth, 10, 64)
			fail(err)
			sink = &mortal{Sink: sink, fatal: fatal}
		}
		return bridge.Route{
			Name: name, Source: bridge.FromStream(s, nil), Sink: sink, Batch: batch,
			RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond,
		}
	}
	lanes := route("lanes", apart, 1)
	lanes.Lanes = 4
	fail(bridge.Run(ctx, bridge.Config{
		Routes:  []bridge.Route{route("hooks", hooks, 1), route("mirror", mirror, childBatch), lanes},
		OnError: func(err error) { log.Print(err) },
	}))
}

// mortal is a sink whose n-th Send the process does not survive: it dies before, in the middle of it, or behind it, when the broker
// has taken the batch and the bridge does not know yet.
type mortal struct {
	bridge.Sink
	calls atomic.Int64
	fatal int64
}

func (m *mortal) Send(ctx context.Context, batch []*bridge.Message) error {
	if m.calls.Add(1) != m.fatal {
		return m.Sink.Send(ctx, batch)
	}
	switch rand.IntN(3) {
	case 0:
		die()
	case 1:
		time.AfterFunc(rand.N(3*time.Millisecond), die)
	}
	_ = m.Sink.Send(ctx, batch)
	die()
	return nil
}

func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}
