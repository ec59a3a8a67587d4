package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/pghub/pghub"
)

// CloudEvent says how the attributes of CloudEvents are made, by templates; see [Route].
type CloudEvent struct {
	// Source says where the event happened, as a URI or a part of one. Source and id together are an event's name in the world. "":
	// /pghub/ and the route's name.
	Source string

	// Type of the event. "": {topic}.
	Type string

	// Subject within the source. "": {key}, and none for an event without keys.
	Subject string

	// Extensions are further attributes: their names are lower-case letters and digits. One that the event has nothing for is left out.
	Extensions map[string]string
}

// ceTemplates are those of a CloudEvent, parsed.
type ceTemplates struct {
	source, typ, subject *template
	extensions           map[string]*template
	names                []string // of the extensions, in order
}

// reserved are the names that no extension may have.
var reserved = []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}

func parseCloudEvent(c CloudEvent, route string) (t ceTemplates, err error) {
	for _, one := range []struct {
		name, text, otherwise string
		into                  **template
	}{
		{"Source", c.Source, "/pghub/" + escapeBraces(url.PathEscape(route)), &t.source},
		{"Type", c.Type, "{topic}", &t.typ},
		{"Subject", c.Subject, "{key|}", &t.subject},
	} {
		if *one.into, err = parseTemplate(orDefault(one.text, one.otherwise)); err != nil {
			return t, fmt.Errorf("CloudEvent.%s: %w", one.name, err)
		}
	}
	t.extensions = make(map[string]*template, len(c.Extensions))
	for name, text := range c.Extensions {
		if !isAttributeName(name) || slices.Contains(reserved, name) {
			return t, fmt.Errorf("CloudEvent.Extensions: %q is no name of an extension: lower-case letters and digits, and none of %v", name, reserved)
		}
		if t.extensions[name], err = parseTemplate(text); err != nil {
			return t, fmt.Errorf("CloudEvent.Extensions: %s: %w", name, err)
		}
		t.names = append(t.names, name)
	}
	slices.Sort(t.names)
	return t, nil
}

func isAttributeName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// attribute is one of a CloudEvent.
type attribute struct{ name, text string }

// list is all attributes, in a fixed order. time is in it if it is known, and subject if it is not empty.
func (t *ceTemplates) list(ev *pghub.Event, m *Message) ([]attribute, error) {
	source, err := t.source.render(ev, m)
	if err != nil {
		return nil, fmt.Errorf("source of the CloudEvent: %w", err)
	}
	if _, err := url.Parse(source); err != nil || source == "" {
		return nil, fmt.Errorf("source of the CloudEvent: %q is no URI", source)
	}
	typ, err := t.typ.render(ev, m)
	if err != nil {
		return nil, fmt.Errorf("type of the CloudEvent: %w", err)
	}
	if typ == "" {
		return nil, fmt.Errorf("type of the CloudEvent: it is empty")
	}
	list := []attribute{{"specversion", "1.0"}, {"id", m.ID}, {"source", source}, {"type", typ}}
	if subject, err := t.subject.render(ev, m); err == nil && subject != "" {
		list = append(list, attribute{"subject", subject})
	}
	if !m.Time.IsZero() {
		list = append(list, attribute{"time", m.Time.UTC().Format(time.RFC3339Nano)})
	}
	for _, name := range t.names {
		if text, err := t.extensions[name].render(ev, m); err == nil && text != "" {
			list = append(list, attribute{name, text})
		}
	}
	return list, nil
}

// attributes are those of binary mode. The content type is the protocol's own.
func (t *ceTemplates) attributes(ev *pghub.Event, m *Message) (map[string]string, error) {
	list, err := t.list(ev, m)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(list))
	for _, a := range list {
		all[a.name] = a.text
	}
	return all, nil
}

// structured is the CloudEvent as one JSON object.
func (t *ceTemplates) structured(ev *pghub.Event, m *Message) ([]byte, error) {
	list, err := t.list(ev, m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for i, a := range list {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&b, `"%s":`, a.name)
		writeString(&b, a.text)
	}
	if ev.Value != nil {
		b.WriteString(`,"datacontenttype":"application/json","data":`)
		b.Write(ev.Value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// writeString writes a JSON string, without escaping <, > and &.
func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)       // a string can be encoded
	b.Truncate(b.Len() - 1) // the line's end
}
