package pghubtest

import (
	"context"
	"slices"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// PID is the process ID of what [Server.Notify] and [Server.Publish] send: that of another process.
const PID = fakepg.NotifierPID

// Notification is what a client of the server has committed.
type Notification struct {
	Topic, Payload string
	PID            uint32 // of the client's connection, as in [pghub.Event]
}

// Event decodes the payload, as a consumer with [pghub.KeyValueCodec] gets it.
func (n Notification) Event() (*pghub.Event, error) {
	ev := &pghub.Event{Topic: n.Topic, Payload: []byte(n.Payload), PID: n.PID}
	if err := (pghub.KeyValueCodec{}).Decode(ev); err != nil {
		return nil, &pghub.DecodeError{Topic: ev.Topic, Payload: ev.Payload, Err: err}
	}
	return ev, nil
}

// Notify sends a notification from "another process": committed at once, to everybody who listens to the topic. Nobody is
// waited for, and the limits of PostgreSQL are not checked. A payload that the consumer's codec refuses does not reach its
// handler, but Config.OnError.
func (s *Server) Notify(topic, payload string) { s.fake.Notify(topic, payload) }

// Publish is [Server.Notify] with the payload that [pghub.KeyValueCodec] makes of key and value.
func (s *Server) Publish(topic string, key []int64, value any) {
	s.tb.Helper()
	payload, err := pghub.KeyValueCodec{}.Append(nil, key, value)
	if err != nil {
		s.tb.Errorf("pghubtest: Publish: %v", err)
		return
	}
	s.Notify(topic, string(payload))
}

// Published returns what clients of the server have committed so far, in the order of their commits: by Notify, NotifyTx,
// or SQL. What [Server.Notify] sent is not among it. Equal events that the hub has sent together differ in the blanks at
// the end of their payloads, which [Notification.Event] trims.
func (s *Server) Published() []Notification { return own(s.fake.Published()) }

// AwaitPublished waits until n notifications have been published since New, and returns all there are. It ends the test
// if that takes more than 30 s.
func (s *Server) AwaitPublished(n int) []Notification {
	s.tb.Helper()
	var all []Notification
	s.await(func(_ map[string]bool, published []fakepg.Notification) bool {
		all = own(published)
		return len(all) >= n
	}, func() {
		s.tb.Fatalf("pghubtest: after %v there are %d notifications, not %d: %+v", patience, len(all), n, all)
	})
	return all
}

// AwaitListen waits until some connection listens to each of the topics: what is sent from then on arrives. It ends the
// test if that takes more than 30 s.
func (s *Server) AwaitListen(topics ...string) {
	s.tb.Helper()
	s.await(func(listening map[string]bool, _ []fakepg.Notification) bool {
		return !slices.ContainsFunc(topics, func(topic string) bool { return !listening[topic] })
	}, func() {
		s.tb.Fatalf("pghubtest: after %v only these topics are listened to: %q", patience, s.Listening())
	})
}

// Listening returns the topics that are listened to now, by anybody, sorted.
func (s *Server) Listening() []string { return s.fake.Listening() }

func (s *Server) await(done func(listening map[string]bool, published []fakepg.Notification) bool, fail func()) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.fake.Wait(ctx, done); err != nil {
		fail()
	}
}

func own(published []fakepg.Notification) []Notification {
	all := make([]Notification, len(published))
	for i, n := range published {
		all[i] = Notification{Topic: n.Channel, Payload: n.Payload, PID: n.PID}
	}
	return all
}
