package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/pghub/pghub"
)

// Format is the form of a message's body.
type Format int

// The formats.
const (
	// Value is the event's value, as it was published: JSON. Empty if there is none.
	Value Format = iota
	// Payload is the event's payload as it came: with the hub's codec, such as e7:{"a":1}, or any text of [pghub.RawCodec].
	Payload
	// EventJSON is {"topic":…,"key":[…],"value":…}.
	EventJSON
	// CloudEvents is a CloudEvent 1.0 in structured mode: one JSON object with its attributes, and the value as its data.
	CloudEvents
	// CloudEventsBinary is a CloudEvent 1.0 in binary mode: the value, and its attributes in Message.Attributes.
	CloudEventsBinary
)

var formatNames = [...]string{"value", "payload", "event", "cloudevents", "cloudevents-binary"}

// String is the name that UnmarshalText takes.
func (f Format) String() string {
	if f < 0 || int(f) >= len(formatNames) {
		return fmt.Sprintf("Format(%d)", int(f))
	}
	return formatNames[f]
}

// MarshalText gives the name.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText takes a name: value, payload, event, cloudevents or cloudevents-binary.
func (f *Format) UnmarshalText(text []byte) error {
	for i, name := range formatNames {
		if name == string(text) {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("bridge: there is no format %q; there are %v", text, formatNames)
}

const (
	typeJSON       = "application/json"
	typeText       = "text/plain; charset=utf-8"
	typeCloudEvent = "application/cloudevents+json"
)

var errNoJSON = errors.New("the value is not JSON")

// writer makes messages of events, in the form that a route wants.
type writer struct {
	route        string
	target       *template
	gapTarget    *template
	partitionKey *template
	headers      map[string]*template
	format       Format
	contentType  string
	ce           ceTemplates
	edit         func(ev *pghub.Event, m *Message) error
}

// write fills a message that has its ID and Position. The error says why the event cannot be sent in this form.
func (w *writer) write(ev *pghub.Event, m *Message) (err error) {
	m.Topic, m.Key = ev.Topic, ev.Key
	target := w.target
	if m.Gap != nil {
		target = w.gapTarget
	}
	if m.Target, err = target.render(ev, m); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if m.PartitionKey, err = w.partitionKey.render(ev, m); err != nil && m.Gap == nil {
		return fmt.Errorf("partition key: %w", err)
	}
	if err := w.writeHeaders(ev, m); err != nil {
		return err
	}
	if err := w.writeBody(ev, m); err != nil {
		return err
	}
	if w.contentType != "" && w.format != CloudEvents {
		m.ContentType = w.contentType
	}
	if w.edit == nil || m.Gap != nil {
		return nil
	}
	return guarded("Edit", func() error { return w.edit(ev, m) })
}

func (w *writer) writeHeaders(ev *pghub.Event, m *Message) error {
	if ev.Record != nil && len(ev.Record.Headers) > 0 {
		m.Headers = maps.Clone(ev.Record.Headers)
	}
	for name, t := range w.headers {
		text, err := t.render(ev, m)
		if errors.Is(err, errMissing) {
			continue // a header that an event has nothing for is left out
		} else if err != nil {
			return err
		}
		if m.Headers == nil {
			m.Headers = make(map[string]string)
		}
		m.Headers[name] = text
	}
	return nil
}

func (w *writer) writeBody(ev *pghub.Event, m *Message) (err error) {
	if w.format != Payload && ev.Value != nil && !json.Valid(ev.Value) {
		return errNoJSON
	}
	switch w.format {
	case Value:
		m.Body, m.ContentType = ev.Value, typeJSON
	case Payload:
		m.Body, m.ContentType = ev.Payload, typeText
		if m.Gap != nil {
			m.Body, m.ContentType = ev.Value, typeJSON
		}
	case EventJSON:
		m.Body, err = ev.MarshalJSON()
		m.ContentType = typeJSON
	case CloudEvents:
		m.Body, err = w.ce.structured(ev, m)
		m.ContentType = typeCloudEvent
	case CloudEventsBinary:
		m.Body, m.ContentType = ev.Value, typeJSON
		m.Attributes, err = w.ce.attributes(ev, m)
	}
	return err
}
