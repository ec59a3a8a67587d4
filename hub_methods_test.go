package pghub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
)

// A hub is brought into each state of its life, where every method has a defined answer: to a caller from outside, to
// several at once, and to one inside a handler.

type stage int

const (
	idle stage = iota
	connecting
	listening
	outage
	stopping
	stopped
	stages
)

func (s stage) state() State {
	return [stages]State{StateIdle, StateConnecting, StateListening, StateWaiting, StateStopping, StateStopped}[s]
}

// answers of a method, stage by stage.
type answers [stages]error

// stubTx is a transaction that takes everything.
type stubTx struct{}

func (stubTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, nil
}

type method struct {
	name    string
	want    answers
	call    func(ctx context.Context, hub *Hub, c *Consumer) error
	starts  bool // would leave the idle stage
	batches bool // the scripted server knows no batches: not to be called several times at once
}

var (
	always   = answers{}
	begun    = answers{nil, ErrStarted, ErrStarted, ErrStarted, ErrStopped, ErrStopped}
	publish  = answers{ErrNotStarted, ErrNotConnected, nil, ErrNotConnected, ErrStopped, ErrStopped}
	make1    = answers{nil, nil, nil, nil, ErrStopped, ErrStopped}
	listen   = answers{nil, context.DeadlineExceeded, nil, context.DeadlineExceeded, ErrStopped, ErrStopped}
	isClosed = answers{ErrClosed, ErrClosed, ErrClosed, ErrClosed, ErrStopped, ErrStopped}
)

var methods = []method{
	{name: "Start", want: begun, starts: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error { return hub.Start(ctx) }},
	{name: "Run", want: begun, starts: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error { return hub.Run(ctx) }},
	{name: "Notify", want: publish, batches: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.Notify(ctx, "a", nil, nil)
	}},
	{name: "NotifyPayload", want: publish, batches: true, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.NotifyPayload(ctx, "a", "e")
	}},
	{name: "NotifyTx", want: always, call: func(ctx context.Context, hub *Hub, _ *Consumer) error {
		return hub.NotifyTx(ctx, stubTx{}, "a", nil, nil)
	}},
	{name: "Consumer", want: make1, call: func(_ context.Context, hub *Hub, _ *Consumer) error {
		_, err := hub.Consumer(context.Background(), newWitness().handle, nil)
		return err
	}},
	{name: "Events", want: listen, call: func(ctx context.Context, hub *Hub, _ *Consumer) (err error) {
		for ev := range hub.Events(ctx, "b") {
			err = ev.Advisory.Err
		}
		return err
	}},
	{name: "Subscribe", want: listen, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Subscribe(ctx, "b") }},
	{name: "Unsubscribe", want: always, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Unsubscribe(ctx, "a") }},
	{name: "Drain", want: always, call: func(ctx context.Context, _ *Hub, c *Consumer) error { return c.Drain(ctx) }},
	{name: "Close", want: always, call: func(_ context.Context, _ *Hub, c *Consumer) error { return c.Close() }},
	{name: "Subscribe of a closed consumer", want: isClosed, call: func(ctx context.Context, _ *Hub, c *Consumer) error {
		return errors.Join(c.Close(), c.Subscribe(ctx, "b"))
	}},
	{name: "Stats", want: always, call: func(_ context.Context, hub *Hub, c *Consumer) error {
		hub.Stats()
		c.Stats()
		c.Topics()
		return nil
	}},
}

// inside runs calls on a goroutine that is in a handler.
type inside struct{ calls chan func() }

func (in inside) handle(_ context.Context, ev *Event) {
	if ev.Advisory.Final {
		for f := range in.calls {
			f()
		}
	}
}

func TestEveryMethodHasAnAnswerInEveryState(t *testing.T) {
	ways := map[string]func(in inside, m method, check func()){
		"outside": func(_ inside, _ method, check func()) { check() },
		"inside": func(in inside, _ method, check func()) {
			done := make(chan struct{})
			in.calls <- func() { check(); close(done) }
			<-done
		},
		"several at a time": func(_ inside, m method, check func()) {
			var calls sync.WaitGroup
			for range 5 {
				if calls.Go(check); m.batches {
					break
				}
			}
			calls.Wait()
		},
	}
	for at := range stages {
		for way, call := range ways {
			if at == stopped && way == "inside" {
				continue // no handler runs any more
			}
			t.Run(fmt.Sprintf("%s, %s", at.state(), way), func(t *testing.T) {
				onFake(t, func(t *testing.T, server *fakepg.Server) {
					poolCfg, err := pgxpool.ParseConfig(server.Config().ConnString())
					require.NoError(t, err)
					poolCfg.ConnConfig = server.Config()
					poolCfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
					pool, err := pgxpool.NewWithConfig(context.Background(), poolCfg)
					require.NoError(t, err)
					t.Cleanup(pool.Close)
					hub := hubOf(t, Config{Pool: pool, ReconnectMin: time.Hour, ReconnectMax: time.Hour})

					in := inside{make(chan func())}
					handler, err := hub.Consumer(context.Background(), in.handle, nil)
					require.NoError(t, err)
					leaveHandler := sync.OnceFunc(func() { close(in.calls) })
					t.Cleanup(leaveHandler)
					var targets []*Consumer
					for range methods {
						_, c := watch(t, hub, "a")
						targets = append(targets, c)
					}
					ended := bringTo(t, at, server, hub, handler, leaveHandler)
					require.Equal(t, at.state(), hub.State())

					for i, m := range methods {
						if m.starts && at == idle {
							continue
						}
						call(in, m, func() {
							ctx, cancel := context.WithTimeout(context.Background(), time.Second)
							defer cancel()
							err := m.call(ctx, hub, targets[i])
							if m.want[at] == nil {
								assert.NoError(t, err, m.name)
							} else {
								assert.ErrorIs(t, err, m.want[at], m.name)
							}
						})
					}
					require.Equal(t, at.state(), hub.State(), "none of this has changed the state")
					leaveHandler()
					require.NoError(t, hub.Stop(within(t)))
					require.NoError(t, outcome(t, ended))
				})
			})
		}
	}
}

// bringTo brings a hub to a stage of its life, in which handler's handler does not return before leave is called. It
// returns where the outcome of Run will be.
func bringTo(t *testing.T, at stage, server *fakepg.Server, hub *Hub, handler *Consumer, leave func()) (ended <-chan error) {
	t.Helper()
	go func() { _ = handler.Drain(context.Background()) }() // ends with the test
	if at == idle {
		return background(func() error { return nil })
	}
	server.HangDials(at == connecting)
	ended = background(func() error { return hub.Run(context.Background()) })
	synctest.Wait()
	switch at {
	case outage:
		server.RefuseDials(errRefusedByTest)
		server.Kill()
	case stopping:
		go func() { _ = hub.Stop(context.Background()) }() // ends with the test
	case stopped:
		leave()
		require.NoError(t, hub.Stop(within(t)))
	}
	synctest.Wait()
	return ended
}
