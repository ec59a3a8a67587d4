package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pghub/pghub"
)

// A template makes a text of an event: "shop.{topic}.{value.state|none}". What stands in braces is one of
//
//	{topic}  {key}  {key.0}  {value}  {value.items.0.name}  {header.traceparent}  {payload}  {id}  {route}
//
// and behind a bar what stands there if the event has no such thing; nothing may follow the bar. {{ and }} are braces. {key} is the
// numbers with commas in between. A value that is a JSON string is its text, null is as if it were missing, and anything else is its JSON.
type template struct {
	text  string // as it was configured
	parts []part
}

// part is a text that stays, or a field that is looked up.
type part struct {
	literal string
	field   string // "": a literal
	path    []string
	index   int // of a key
	instead *string
}

// fields says which fields there are, and whether something may follow after a dot.
var fields = map[string]bool{"topic": false, "key": true, "value": true, "header": true, "payload": false, "id": false, "route": false}

// errMissing says that an event does not have what a template asks for.
var errMissing = errors.New("the event has no such thing")

// parseTemplate reads a template. The error says what is wrong, and where.
func parseTemplate(text string) (*template, error) {
	t := &template{text: text}
	var literal strings.Builder
	for i := 0; i < len(text); {
		switch {
		case strings.HasPrefix(text[i:], "{{"), strings.HasPrefix(text[i:], "}}"):
			literal.WriteByte(text[i])
			i += 2
		case text[i] == '}':
			return nil, fmt.Errorf("template %q: } at byte %d closes nothing; }} is a brace", text, i)
		case text[i] == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("template %q: { at byte %d is not closed", text, i)
			}
			p, err := parseField(text[i+1 : i+end])
			if err != nil {
				return nil, fmt.Errorf("template %q: at byte %d: %w", text, i, err)
			}
			if literal.Len() > 0 {
				t.parts = append(t.parts, part{literal: literal.String()})
				literal.Reset()
			}
			t.parts = append(t.parts, p)
			i += end + 1
		default:
			literal.WriteByte(text[i])
			i++
		}
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
	}
	return t, nil
}

func parseField(text string) (part, error) {
	name, instead, hasInstead := strings.Cut(text, "|")
	field, rest, hasRest := strings.Cut(name, ".")
	p := part{field: field, index: -1}
	if hasInstead {
		p.instead = &instead
	}
	deep, known := fields[field]
	switch {
	case !known:
		return p, fmt.Errorf("{%s}: there is no field %q; there are topic, key, value, header, payload, id and route", text, field)
	case hasRest && !deep:
		return p, fmt.Errorf("{%s}: nothing may follow %s", text, field)
	case hasRest && rest == "", field == "header" && !hasRest:
		return p, fmt.Errorf("{%s}: a name is missing", text)
	case !hasRest:
		return p, nil
	}
	switch field {
	case "header":
		p.path = []string{rest}
	case "key":
		n, err := strconv.ParseUint(rest, 10, 31)
		if err != nil {
			return p, fmt.Errorf("{%s}: the place of a key is a number from 0 on", text)
		}
		p.index = int(n)
	case "value":
		p.path = strings.Split(rest, ".")
		for _, step := range p.path {
			if step == "" {
				return p, fmt.Errorf("{%s}: a name is missing", text)
			}
		}
	}
	return p, nil
}

// isFixed reports whether the template is the same text for every event.
func (t *template) isFixed() bool {
	for _, p := range t.parts {
		if p.field != "" && p.field != "route" {
			return false
		}
	}
	return true
}

// render makes the text. The error wraps errMissing if the event does not have what is asked for.
func (t *template) render(ev *pghub.Event, m *Message) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.literal)
			continue
		}
		text, found := p.lookUp(ev, m)
		if !found {
			if p.instead == nil {
				return "", fmt.Errorf("template %q: {%s}: %w", t.text, p.name(), errMissing)
			}
			text = *p.instead
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (p *part) name() string {
	switch {
	case p.index >= 0:
		return fmt.Sprintf("%s.%d", p.field, p.index)
	case p.path != nil:
		return p.field + "." + strings.Join(p.path, ".")
	}
	return p.field
}

func (p *part) lookUp(ev *pghub.Event, m *Message) (text string, found bool) {
	switch p.field {
	case "topic":
		return ev.Topic, true
	case "id":
		return m.ID, true
	case "route":
		return m.Route, true
	case "payload":
		return string(ev.Payload), true
	case "header":
		if ev.Record != nil {
			text, found = ev.Record.Headers[p.path[0]]
		}
		return text, found
	case "key":
		return keyText(ev.Key, p.index)
	}
	return valueText(ev.Value, p.path)
}

// keyText is a key's number, or all of them.
func keyText(key []int64, index int) (string, bool) {
	if index >= len(key) || len(key) == 0 {
		return "", false
	}
	if index >= 0 {
		return strconv.FormatInt(key[index], 10), true
	}
	var b []byte
	for i, k := range key {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, k, 10)
	}
	return string(b), true
}

// valueText follows a path into a value. Only what lies on the path is decoded.
func valueText(value json.RawMessage, path []string) (string, bool) {
	for _, step := range path {
		value = within(value, step)
	}
	switch {
	case len(value) == 0 || string(value) == "null":
		return "", false
	case value[0] == '"':
		var s string
		if json.Unmarshal(value, &s) != nil {
			return "", false
		}
		return s, true
	}
	return string(value), json.Valid(value)
}

// within is a member of an object, or an element of an array; nil if there is none.
func within(value json.RawMessage, step string) json.RawMessage {
	switch {
	case len(value) == 0:
		return nil
	case value[0] == '[':
		var list []json.RawMessage
		n, err := strconv.ParseUint(step, 10, 31)
		if err != nil || json.Unmarshal(value, &list) != nil || n >= uint64(len(list)) {
			return nil
		}
		return list[n]
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) != nil {
		return nil
	}
	return object[step]
}
