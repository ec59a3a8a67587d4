package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/pghub/pghub"
)

// encoder is the codec of all consumers in the event format. A hub decodes an event once for all consumers that share a
// codec: what they share here is the message itself, which stands in Event.Value. So one event is encoded once, for
// whatever number of clients.
//
// It is used as a pointer, so that it can be compared whatever the codec within.
type encoder struct {
	pghub.Codec
	past *past // nil: events have no ids
}

// Decode never fails: clients get a payload that the codec within refuses as it came, with the reason.
func (e *encoder) Decode(ev *pghub.Event) error {
	ev.Value = e.encode(ev)
	if e.past != nil {
		ev.Value = e.past.note(ev, ev.Value)
	}
	return nil
}

// encode makes the message of an event.
func (e *encoder) encode(ev *pghub.Event) []byte {
	codec := e.Codec
	if ev.Record != nil {
		codec = pghub.KeyValueCodec{} // of all streams
	}
	err := codec.Decode(ev)
	var message []byte
	if err == nil {
		message, err = ev.MarshalJSON()
	}
	if err != nil {
		message, _ = json.Marshal(undecoded{ // never fails
			Topic: ev.Topic, Key: []int64{}, Payload: string(ev.Payload), Undecodable: reason(err),
		})
	}
	return message
}

// undecoded is the message of an event whose payload is not what the codec expects.
type undecoded struct {
	Topic       string          `json:"topic"`
	Key         []int64         `json:"key"`
	Value       json.RawMessage `json:"value"`
	Payload     string          `json:"payload"`
	Undecodable string          `json:"undecodable"`
}

// reason is the innermost error's text: the outer ones repeat topic and payload.
func reason(err error) string {
	if d, ok := err.(*pghub.DecodeError); ok {
		err = d.Err
	}
	return err.Error()
}

// advisoryMessage is a supervisory event as clients get it.
func advisoryMessage(ev *pghub.Event) []byte {
	b := append(make([]byte, 0, 40+len(ev.Value)), `{"topic":null,"key":[],"value":`...)
	return append(append(b, ev.Value...), '}')
}

// lagMessage says, in the words of the hub, that so many events are missing at this place.
func lagMessage(dropped uint64) []byte {
	b := append(make([]byte, 0, 96), `{"topic":null,"key":[],"value":{"action":"lag","dropped":`...)
	b = strconv.AppendUint(b, dropped, 10)
	return append(b, `,"final":false}}`...)
}

// reconnectMessage tells a client that has come back of the gap in its stream.
var reconnectMessage = []byte(`{"topic":null,"key":[],"value":{"action":"reconnect","final":false}}`)

// compact keeps line breaks, which JSON allows between its parts, out of a text stream.
func compact(message []byte) []byte {
	if bytes.IndexByte(message, '\n') < 0 && bytes.IndexByte(message, '\r') < 0 {
		return message
	}
	var b bytes.Buffer
	if err := json.Compact(&b, message); err != nil {
		return message // never: all messages are JSON
	}
	return b.Bytes()
}
