package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgwire"
)

// handler is told which consumer has an event, on a goroutine of the way's choice.
type handler func(consumer int)

// fanOut connects to a scripted server in this process and brings every event to so many consumers.
type fanOut func(ctx context.Context, server *fakepg.Server, consumers int, handle handler) (end func(), err error)

const byGoroutines = "goroutine and channel each"

const fanOutTopic = "topic"

// fanOutHub is a hub.
func fanOutHub(ctx context.Context, server *fakepg.Server, consumers int, handle handler) (end func(), err error) {
	hub, err := pghub.New(pghub.Config{ListenConfig: server.Config()})
	if err != nil {
		return nil, err
	}
	end = func() {
		over, cancel := context.WithCancel(ctx)
		cancel()
		_ = hub.Stop(over)
	}
	for i := range consumers {
		_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				handle(i)
			}
		}, &pghub.ConsumerConfig{Topics: []string{fanOutTopic}})
		if err != nil {
			end()
			return nil, err
		}
	}
	if err := hub.Start(ctx); err != nil {
		return nil, err
	}
	return end, nil
}

// channelSize bounds what waits for a consumer with a goroutine of its own. As much as a hub's queue has, 16,384, would
// take 130 kB a consumer from the start.
const channelSize = 1024

// fanOutGoroutines is the obvious way: one goroutine reads the connection and decodes, each consumer has a goroutine and a
// channel, and where a channel is full everybody waits.
func fanOutGoroutines(ctx context.Context, server *fakepg.Server, consumers int, handle handler) (end func(), err error) {
	conn, err := listenBare(ctx, &server.Config().Config, []string{fanOutTopic})
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	channels := make([]chan *pghub.Event, consumers)
	for i := range channels {
		channels[i] = make(chan *pghub.Event, channelSize)
		all.Go(func() {
			for range channels[i] {
				handle(i)
			}
		})
	}
	all.Go(func() {
		readAndSend(conn, channels)
		for _, events := range channels {
			close(events)
		}
	})
	return func() {
		_ = conn.Close()
		all.Wait()
	}, nil
}

// readAndSend ends when the connection is closed.
func readAndSend(conn net.Conn, channels []chan *pghub.Event) {
	frames := pgwire.NewReader(conn)
	for frames.Fill() == nil {
		for {
			frame, ok, err := frames.Next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			n, err := pgwire.ParseNotification(frame.Body)
			if err != nil {
				return
			}
			ev := &pghub.Event{Topic: fanOutTopic, PID: n.PID, Payload: append([]byte{}, n.Payload...)}
			if err := (pghub.KeyValueCodec{}).Decode(ev); err != nil {
				return
			}
			for _, events := range channels {
				events <- ev
			}
		}
	}
}

// sleepUntil sleeps, and looks again, until a time has come.
func sleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		time.Sleep(d)
	}
}
