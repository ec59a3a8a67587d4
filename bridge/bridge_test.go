package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/stream"
)

// Everything that is wrong with a configuration is named by New, before anything is connected: the route, and the field.
func TestWrongRoutes(t *testing.T) {
	for want, change := range map[string]func(*bridge.Route){
		"Name":                         func(r *bridge.Route) { r.Name = "" },
		"Source":                       func(r *bridge.Route) { r.Source = nil },
		"Sink":                         func(r *bridge.Route) { r.Sink = nil },
		"Lanes is -1":                  func(r *bridge.Route) { r.Lanes = -1 },
		"Batch is 10001":               func(r *bridge.Route) { r.Batch = 10001 },
		"BatchBytes is -1":             func(r *bridge.Route) { r.BatchBytes = -1 },
		"Timeout is -1s":               func(r *bridge.Route) { r.Timeout = -time.Second },
		"RetryMin is 1m0s":             func(r *bridge.Route) { r.RetryMin, r.RetryMax = time.Minute, time.Second },
		"Attempts is -1":               func(r *bridge.Route) { r.Attempts = -1 },
		"no format 9":                  func(r *bridge.Route) { r.Format = 9 },
		`Target: template "{"`:         func(r *bridge.Route) { r.Target = "{" },
		`GapTarget: template "}"`:      func(r *bridge.Route) { r.GapTarget = "}" },
		`PartitionKey: template "{x}"`: func(r *bridge.Route) { r.PartitionKey = "{x}" },
		`Headers: a: template "{x}"`:   func(r *bridge.Route) { r.Headers = map[string]string{"a": "{x}"} },
		"Headers: a name is empty":     func(r *bridge.Route) { r.Headers = map[string]string{"": "x"} },
		`CloudEvent.Type: template`:    func(r *bridge.Route) { r.CloudEvent.Type = "{" },
		`Extensions: "data"`:           func(r *bridge.Route) { r.CloudEvent.Extensions = map[string]string{"data": ""} },
		`Extensions: "Trace"`:          func(r *bridge.Route) { r.CloudEvent.Extensions = map[string]string{"Trace": ""} },
		"the sink needs all messages":  func(r *bridge.Route) { r.Lanes, r.Sink = 2, orderly{newBroker()} },
		"Topics is empty":              func(r *bridge.Route) { r.Source = bridge.FromHub(&pghub.Hub{}, nil) },
		"by name, and not by pattern": func(r *bridge.Route) {
			r.Source, r.Topics, r.Match = bridge.FromHub(&pghub.Hub{}, nil), []string{"a"}, []string{"*"}
		},
		"with a hub as source 1": func(r *bridge.Route) {
			r.Source, r.Topics, r.Lanes = bridge.FromHub(&pghub.Hub{}, nil), []string{"a"}, 2
		},
		"the hub is nil":    func(r *bridge.Route) { r.Source, r.Topics = bridge.FromHub(nil, nil), []string{"a"} },
		"the stream is nil": func(r *bridge.Route) { r.Source = bridge.FromStream(nil, nil) },
		"Topics: invalid topic": func(r *bridge.Route) {
			r.Source, r.Topics = bridge.FromHub(&pghub.Hub{}, nil), []string{"a", strings.Repeat("x", 64)}
		},
		"Topics: invalid topic: \"\"": func(r *bridge.Route) {
			r.Source, r.Topics = bridge.FromStream(&stream.Stream{}, nil), []string{""}
		},
		"Match: a pattern is empty": func(r *bridge.Route) { r.Match = []string{"a*", ""} },
		"Lease is 1ms": func(r *bridge.Route) {
			r.Source = bridge.FromStream(&stream.Stream{}, &bridge.StreamConfig{Lease: time.Millisecond})
		},
		"has 64 bytes": func(r *bridge.Route) {
			r.Name, r.Source = strings.Repeat("x", 64-len("bridge.")), bridge.FromStream(&stream.Stream{}, nil)
		},
		"Poison is 7": func(r *bridge.Route) {
			r.Source = bridge.FromStream(&stream.Stream{}, &bridge.StreamConfig{Poison: 7})
		},
		"there are two routes": func(r *bridge.Route) { r.Name = "good" },
	} {
		sink := newBroker()
		bad := bridge.Route{Name: "bad", Source: newScript(), Sink: sink}
		change(&bad)
		_, err := bridge.New(bridge.Config{Routes: []bridge.Route{{Name: "good", Source: newScript(), Sink: sink}, bad}})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "route 2", want)
		require.Zero(t, sink.closed)
	}
	_, err := bridge.New(bridge.Config{})
	require.ErrorContains(t, err, "Routes is empty")
	_, err = bridge.New(bridge.Config{StopTimeout: -1, Routes: []bridge.Route{{Name: "good", Source: newScript(), Sink: newBroker()}}})
	require.ErrorContains(t, err, "StopTimeout")
}

// Two routes cannot be one consumer of a stream: one of them would have nothing to do, and take over the other one's position.
func TestTwoRoutesWithOneConsumer(t *testing.T) {
	shared, other := &stream.Stream{}, &stream.Stream{}
	with := func(name string, s *stream.Stream, consumer string) bridge.Route {
		return bridge.Route{Name: name, Source: bridge.FromStream(s, &bridge.StreamConfig{Name: consumer}), Sink: newBroker()}
	}
	_, err := bridge.New(bridge.Config{Routes: []bridge.Route{with("1", shared, "x"), with("2", other, "x"), with("3", shared, ""), with("4", shared, "x")}})
	require.ErrorContains(t, err, `route 4, "4": consumer "x" of the stream is that of route "1"`)
	_, err = bridge.New(bridge.Config{Routes: []bridge.Route{with("1", shared, ""), with("2", shared, "bridge.1")}})
	require.ErrorContains(t, err, `consumer "bridge.1"`)
	_, err = bridge.New(bridge.Config{Routes: []bridge.Route{with("1", shared, "x"), with("2", other, "x"), with("3", shared, "")}})
	require.NoError(t, err)
}

type orderly struct{ *broker }

func (orderly) NeedsOrder() bool { return true }

// A bridge starts once, stops as often as one likes, and closes each sink once.
func TestLife(t *testing.T) {
	pgtest.CheckLeaks(t)
	shared, other := newBroker(), newBroker()
	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{
		{Name: "1", Source: newScript(), Sink: shared}, {Name: "2", Source: newScript(), Sink: shared}, {Name: "3", Source: newScript(), Sink: other},
	}})
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	require.ErrorIs(t, b.Start(t.Context()), bridge.ErrStarted)
	require.ErrorIs(t, b.Run(t.Context()), bridge.ErrStarted)
	stop(t, b)
	stop(t, b)
	<-b.Done()
	require.ErrorIs(t, b.Start(t.Context()), bridge.ErrStopped)
	require.Equal(t, []int{1, 1}, []int{shared.closed, other.closed})

	never := newBroker()
	b, err = bridge.New(bridge.Config{Routes: []bridge.Route{{Name: "1", Source: newScript(), Sink: never}}})
	require.NoError(t, err)
	stop(t, b)
	stop(t, b)
	<-b.Done()
	require.Equal(t, 1, never.closed)
	require.ErrorIs(t, b.Run(t.Context()), bridge.ErrStopped)
}

// Run goes on until its context ends, and then stops gracefully.
func TestRun(t *testing.T) {
	pgtest.CheckLeaks(t)
	sink, s := newBroker(), newScript()
	entered, confirm := make(chan struct{}), make(chan struct{})
	sink.answer = func(context.Context, int, []*bridge.Message) error {
		close(entered)
		<-confirm
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- bridge.Run(ctx, bridge.Config{Routes: []bridge.Route{{Name: "r", Source: s, Sink: sink}}, StopTimeout: patience})
	}()
	s.deliveries <- events(1, 2)
	<-entered
	cancel()
	close(confirm)
	require.NoError(t, <-ended)
	require.Equal(t, answer{}, <-s.answers)
	require.Equal(t, 1, sink.closed)
}

// The log says when a route begins, when it fails, and when it works again; when Stop has returned, all has been said.
func TestTheLog(t *testing.T) {
	pgtest.CheckLeaks(t)
	sink, s := newBroker(), newScript()
	sink.answer = func(_ context.Context, call int, _ []*bridge.Message) error {
		if call == 1 {
			return errAway
		}
		return nil
	}
	var text bytes.Buffer
	b := start(t, bridge.Config{
		Routes: []bridge.Route{{Name: "orders", Source: s, Sink: sink, RetryMin: 1, RetryMax: 1}}, Logger: slog.New(slog.NewTextHandler(&text, nil)),
	})
	s.deliveries <- events(1, 2)
	require.Equal(t, answer{}, <-s.answers)
	stop(t, b)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	require.Len(t, lines, 3)
	for i, want := range []string{"a route begins", "the broker is away", "the sink takes messages again"} {
		require.Contains(t, lines[i], want)
		require.Contains(t, lines[i], "route=orders")
	}
}

// Check asks the sinks that can say, with the targets that are known, and names those that would not work.
func TestCheck(t *testing.T) {
	good, bad := &checker{broker: newBroker()}, &checker{broker: newBroker(), err: errAway}
	b, err := bridge.New(bridge.Config{Routes: []bridge.Route{
		{Name: "good", Source: newScript(), Sink: good, Target: "a.{route}"},
		{Name: "bad", Source: newScript(), Sink: bad, Target: "a.{topic}"},
		{Name: "mute", Source: newScript(), Sink: newBroker()},
	}})
	require.NoError(t, err)
	err = b.Check(t.Context())
	require.ErrorIs(t, err, errAway)
	require.ErrorContains(t, err, `"bad"`)
	require.NotContains(t, err.Error(), `"good"`)
	require.Equal(t, []string{"a.good"}, good.targets)
	require.Empty(t, bad.targets)
	stop(t, b)
}

type checker struct {
	*broker
	targets []string
	err     error
}

func (c *checker) Check(_ context.Context, targets []string) error {
	c.targets = targets
	return c.err
}

// The errors that sinks make say what they are.
func TestErrors(t *testing.T) {
	require.NoError(t, make(bridge.Errors, 3).OrNil())
	each := bridge.Errors{nil, errAway, bridge.Refuse(errors.New("no"))}
	require.ErrorIs(t, each.OrNil(), errAway)
	require.ErrorContains(t, each, "1 more of 3 messages")
	require.True(t, bridge.IsRefused(errors.Join(errAway, bridge.Refuse(nil))))
	require.False(t, bridge.IsRefused(bridge.RetryAfter(time.Second, errAway)))
	require.ErrorIs(t, bridge.RetryAfter(time.Second, errAway), errAway)
	require.Error(t, bridge.RetryAfter(0, nil))
}
