package main

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgwire"
)

// handler is told which consumer has an event, on a goroutine of the way's choice.
type handler func(consumer int)

// fanOut connects to a scripted server in this process and brings every event to the consumers of its topic: there is one
// for each of topics.
type fanOut func(ctx context.Context, cfg *pgx.ConnConfig, topics []string, handle handler) (end func(), err error)

const byGoroutines = "goroutine and channel each"

const fanOutTopic = "topic"

// fanOutHub is a hub.
func fanOutHub(ctx context.Context, cfg *pgx.ConnConfig, topics []string, handle handler) (end func(), err error) {
	hub, err := pghub.New(pghub.Config{ListenConfig: cfg})
	if err != nil {
		return nil, err
	}
	end = func() {
		over, cancel := context.WithCancel(ctx)
		cancel()
		_ = hub.Stop(over)
	}
	for i, topic := range topics {
		_, err := hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				handle(i)
			}
		}, &pghub.ConsumerConfig{Topics: []string{topic}})
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
func fanOutGoroutines(ctx context.Context, cfg *pgx.ConnConfig, topics []string, handle handler) (end func(), err error) {
	conn, err := listenBare(ctx, &cfg.Config, slices.Compact(slices.Sorted(slices.Values(topics))))
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	audiences := make(map[string]*audience)
	for i, topic := range topics {
		if audiences[topic] == nil {
			audiences[topic] = &audience{topic: topic}
		}
		events := make(chan *pghub.Event, channelSize)
		audiences[topic].channels = append(audiences[topic].channels, events)
		all.Go(func() {
			for range events {
				handle(i)
			}
		})
	}
	all.Go(func() {
		readAndSend(conn, audiences)
		for _, a := range audiences {
			for _, events := range a.channels {
				close(events)
			}
		}
	})
	return func() {
		_ = conn.Close()
		all.Wait()
	}, nil
}

// audience is the channels of a topic's consumers.
type audience struct {
	topic    string
	channels []chan *pghub.Event
}

// readAndSend ends when the connection is closed.
func readAndSend(conn net.Conn, audiences map[string]*audience) {
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
			to := audiences[string(n.Topic)]
			ev := &pghub.Event{Topic: to.topic, PID: n.PID, Payload: append([]byte{}, n.Payload...)}
			if err := (pghub.KeyValueCodec{}).Decode(ev); err != nil {
				return
			}
			for _, events := range to.channels {
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
