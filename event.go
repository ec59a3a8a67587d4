package pghub

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/pghub/pghub/internal/source"
)

// Event is a notification, decoded, or a supervisory event of the hub itself (then Advisory is not nil).
//
// The same Event goes to all consumers of its topic: read only. It stays valid for as long as it is referenced, and keeps
// up to 31 of its neighbours and 16 kB alive meanwhile: of what is to be kept for long, make a copy.
type Event struct {
	Topic    string          // "" for a supervisory event
	Key      []int64         // nil where there is none
	Value    json.RawMessage // nil where there is none; part of Payload, decoded only when asked
	Payload  []byte          // as it came; nil for a supervisory event
	PID      uint32          // server process that sent it: the backend of the publishing connection
	gap      bool            // the publisher announces one, see announcesGap
	Advisory *Advisory       // for a supervisory event, else nil
	Record   *Record         // for an event of a stream, else nil
}

// Action says what a supervisory event is about.
type Action string

// The supervisory events, and lag.
const (
	ActionConnect    Action = "connect"    // the first connection listens
	ActionDisconnect Action = "disconnect" // the connection is lost; events may be missed from here on
	ActionReconnect  Action = "reconnect"  // a connection listens again; what is committed from here on arrives, but for topics that Advisory.Err names
	ActionStop       Action = "stop"       // the hub has stopped; the last event
	ActionSubscribe  Action = "subscribe"  // the subscription to Advisory.Topic is in effect; with a Gap: again, after the server had refused it
	ActionClose      Action = "close"      // the consumer is closed; the last event
	ActionLag        Action = "lag"        // Advisory.Dropped events are missing here: the queue was full
)

// Advisory is the decoded form of a supervisory event.
type Advisory struct {
	Action  Action
	Topic   string // of subscribe
	Final   bool   // no further event follows: stop and close
	Err     error  // why: the lost connection of disconnect, ErrSlowConsumer of a close by overflow, …
	Gap     Gap    // of reconnect, lag, and a subscribe that comes late: what may have been missed
	Dropped uint64 // of lag, and of a close by overflow: exactly how many events
}

// Gap is a stretch of a consumer's stream in which events may be, or are, missing.
type Gap struct {
	Since   time.Time // the connection was last known to work, or the publisher fell silent; zero for a lag alone
	Until   time.Time // every LISTEN was in effect again, or the publisher spoke again; zero for a lag alone
	Err     error     // why the connection was lost; ErrMuted: the publisher has announced the gap, at an event and not an advisory
	Dropped uint64    // events dropped from the consumer's queue, exactly
}

// Decode decodes the event's value into v as [json.Unmarshal] does, but for numbers that go into an interface: they
// arrive as [json.Number], so that no digit of an int64 is lost. An event without a value decodes as JSON null does. A
// supervisory event is an error: look at Advisory first. The error is a *[DecodeError].
func (e *Event) Decode(v any) error {
	if e.Advisory != nil {
		return &DecodeError{Topic: e.Topic, Payload: e.Value, Err: errAdvisory}
	}
	value := e.Value
	if value == nil {
		value = json.RawMessage("null")
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errTrailingText
		}
	}
	if err != nil {
		return &DecodeError{Topic: e.Topic, Payload: e.Payload, Err: err}
	}
	return nil
}

var (
	errTrailingText = errors.New("text behind the JSON value")
	errAdvisory     = errors.New("a supervisory event, and not one of a topic")
)

// Decode returns the event's value as a T; see [Event.Decode].
func Decode[T any](e *Event) (T, error) {
	var v T
	err := e.Decode(&v)
	return v, err
}

// MarshalJSON gives {"topic":…,"key":[…],"value":…}. A supervisory event's topic is null. A value that is not JSON,
// which a codec that is not strict lets through, is an error.
func (e *Event) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 32+len(e.Topic)+8*len(e.Key)+len(e.Value))
	b = append(b, `{"topic":`...)
	if e.Advisory != nil {
		b = append(b, "null"...)
	} else {
		var err error
		if b, err = appendJSON(b, e.Topic); err != nil {
			return nil, err
		}
	}
	b = append(b, `,"key":[`...)
	for i, k := range e.Key {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, k, 10)
	}
	b = append(b, `],"value":`...)
	if e.Value == nil {
		return append(b, "null}"...), nil
	}
	if !json.Valid(e.Value) {
		return nil, &DecodeError{Topic: e.Topic, Payload: e.Payload, Err: errInvalidJSON}
	}
	return append(append(b, e.Value...), '}'), nil
}

// newAdvisory makes a supervisory event; its Value is the wording that clients of other languages know.
func newAdvisory(a Advisory) *Event {
	b := make([]byte, 0, 64)
	b = append(b, `{"action":"`...)
	b = append(b, a.Action...)
	b = append(b, '"')
	if a.Action == ActionSubscribe {
		b = append(b, `,"topic":`...)
		b = appendJSONString(b, a.Topic)
	}
	if a.Action == ActionLag {
		b = append(b, `,"dropped":`...)
		b = strconv.AppendUint(b, a.Dropped, 10)
	}
	b = append(b, `,"final":`...)
	b = strconv.AppendBool(b, a.Final)
	b = append(b, '}')
	return &Event{Value: b, Advisory: &a}
}

// newResyncMark makes what stands in a queue where Resync is to be called, with nothing for the handler to see.
func newResyncMark() *Event { return &Event{Advisory: &Advisory{}} }

func (e *Event) isResyncMark() bool { return e.Advisory != nil && e.Advisory.Action == "" }

// wantsResync reports that events may be missing where the advisory stands, or that nothing has been read yet.
func (a *Advisory) wantsResync() bool {
	switch a.Action {
	case ActionLag, "":
		return true
	case ActionReconnect:
		return a.Gap != (Gap{}) // none where a guest brings all of the topics
	case ActionSubscribe:
		return !a.Gap.Since.IsZero()
	}
	return false
}

func newLag(dropped uint64) *Event {
	return newAdvisory(Advisory{Action: ActionLag, Dropped: dropped, Err: ErrSlowConsumer, Gap: Gap{Dropped: dropped}})
}

const (
	eventsTogether = 32       // share an allocation, and their keys another one
	textTogether   = 16 << 10 // bytes of payloads in one, unless a single one is longer
	keysTogether   = 2        // of each event; more are an allocation of their own
)

// newEvents makes events of notifications that arrived together, with a copy of what the reader's buffer holds. Key comes
// empty, with capacity for a codec to use. Events that arrive in numbers share allocations, which spares the garbage
// collector most of its work: see the benchmarks.
func newEvents(topic string, burst []source.Message) run {
	if len(burst) == 1 {
		return newLoneEvent(topic, &burst[0])
	}
	events := make(run, 0, len(burst))
	for len(burst) > 0 {
		n, size := 1, len(burst[0].Payload)
		for n < min(len(burst), eventsTogether) && size+len(burst[n].Payload) <= textTogether {
			size += len(burst[n].Payload)
			n++
		}
		space, keys, text := make([]Event, n), make([]int64, n*keysTogether), make([]byte, 0, size)
		for i := range space {
			start := len(text)
			text = append(text, burst[i].Payload...)
			ev := &space[i] // field by field: a write of the whole is slow while the garbage collector marks
			ev.Topic, ev.PID, ev.Record = topic, burst[i].PID, newRecord(burst[i].Stored)
			ev.Key = keys[:0:keysTogether]
			ev.Payload = text[start:len(text):len(text)]
			keys = keys[keysTogether:]
			events = append(events, ev)
		}
		burst = burst[n:]
	}
	return events
}

// newLoneEvent makes an event together with room for its keys and for the run of it: two allocations, with the payload.
func newLoneEvent(topic string, n *source.Message) run {
	s := &struct {
		Event
		keys [4]int64
		run  [1]*Event
	}{Event: Event{Topic: topic, PID: n.PID, Payload: append([]byte{}, n.Payload...), Record: newRecord(n.Stored)}}
	s.Key = s.keys[:0]
	s.run[0] = &s.Event
	return s.run[:]
}
