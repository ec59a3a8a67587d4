package bridge

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// A template finds what it names, or says what is missing, or what stands there instead.
func TestTemplates(t *testing.T) {
	ev := &pghub.Event{
		Topic: "orders", Key: []int64{7, -8}, Payload: []byte("e7,-8:{…}"),
		Value:  json.RawMessage(`{"state":"paid","n":12345678901234567890,"none":null,"items":[{"name":"é\u0000"},true],"":1,"a b":"c"}`),
		Record: &pghub.Record{Headers: map[string]string{"trace.id": "x"}},
	}
	m := &Message{ID: "1.2.3", Route: "r"}
	for text, want := range map[string]string{
		"":                              "",
		"fixed":                         "fixed",
		"{topic}":                       "orders",
		"a.{topic}.b":                   "a.orders.b",
		"{key}":                         "7,-8",
		"{key.0}/{key.1}":               "7/-8",
		"{value.state}":                 "paid",
		"{value.n}":                     "12345678901234567890",
		"{value.items.0.name}":          "é\x00",
		"{value.items.1}":               "true",
		"{value.items.0}":               `{"name":"é\u0000"}`,
		"{value.a b}":                   "c",
		"{header.trace.id}":             "x",
		"{payload}":                     "e7,-8:{…}",
		"{id} {route}":                  "1.2.3 r",
		"{{{topic}}}":                   "{orders}",
		"}}{{":                          "}{",
		"{value.state|other}":           "paid",
		"{value.missing|other}":         "other",
		"{value.missing|}":              "",
		"{value.none|null}":             "null",
		"{value.items.2|x}":             "x",
		"{value.items.-1|x}":            "x",
		"{value.state.deeper|x}":        "x",
		"{key.2|x}":                     "x",
		"{header.other|a|b}":            "a|b",
		"{value.n.0|}{value.items.x|}!": "!",
	} {
		tmpl, err := parseTemplate(text)
		require.NoError(t, err, text)
		got, err := tmpl.render(ev, m)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		"{value.missing}": "{value.missing}", "{value.none}": "{value.none}", "{key.2}": "{key.2}", "{header.other}": "{header.other}",
		"{value.items.9.x}": "{value.items.9.x}",
	} {
		tmpl, err := parseTemplate(text)
		require.NoError(t, err, text)
		_, err = tmpl.render(ev, m)
		require.ErrorIs(t, err, errMissing, text)
		require.ErrorContains(t, err, want)
	}
	for _, text := range []string{"{key}", "{value}", "{header.x}"} {
		tmpl, err := parseTemplate(text)
		require.NoError(t, err)
		_, err = tmpl.render(&pghub.Event{Topic: "t"}, m)
		require.ErrorIs(t, err, errMissing, text)
	}
}

// A template that is wrong is named where it is wrong.
func TestWrongTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"a{":            "byte 1 is not closed",
		"a{topic":       "byte 1 is not closed",
		"ab}c":          "byte 2 closes nothing",
		"{}":            `no field ""`,
		"{Topic}":       `no field "Topic"`,
		"{topics}":      `no field "topics"`,
		"{topic.x}":     "nothing may follow topic",
		"{id.0}":        "nothing may follow id",
		"{header}":      "a name is missing",
		"{header.}":     "a name is missing",
		"{value.}":      "a name is missing",
		"{value.a..b}":  "a name is missing",
		"{key.x}":       "number from 0 on",
		"{key.-1}":      "number from 0 on",
		"{ topic }":     `no field " topic "`,
		"x{topic}{nix}": "byte 8",
	} {
		_, err := parseTemplate(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "template", text)
	}
}

// Whatever a template and a value are, nothing panics, what has no braces stays as it is, and text that is escaped comes out as it was.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{value.a.0|x}", "{{}}", "{key.0}{key}", "{header.x|y}", "{", "}", "{value.a", "é{topic}"} {
		f.Add(text, `{"a":["b",null,1.5]}`)
	}
	f.Add("{value.a.b}", `{"a":{"b":"`)
	f.Add("{value}", `[`)
	f.Fuzz(func(t *testing.T, text, value string) {
		ev := &pghub.Event{Topic: "t", Key: []int64{1}, Value: json.RawMessage(value)}
		if tmpl, err := parseTemplate(text); err == nil {
			got, err := tmpl.render(ev, &Message{ID: "1"})
			if err == nil && !strings.ContainsAny(text, "{}") {
				require.Equal(t, text, got)
			}
			if again, second := tmpl.render(ev, &Message{ID: "1"}); again != got || (err == nil) != (second == nil) {
				t.Errorf("%q gives %q, and then %q", text, got, again)
			}
		} else if !strings.ContainsAny(text, "{}") {
			t.Errorf("%q: %v", text, err)
		}
		escaped, err := parseTemplate(escapeBraces(text))
		require.NoError(t, err)
		got, err := escaped.render(ev, &Message{})
		require.NoError(t, err)
		require.Equal(t, text, got)
	})
}

// Whatever an event is, a CloudEvent of it is JSON with the attributes that it has in binary mode, and the value as its data.
func FuzzCloudEvent(f *testing.F) {
	f.Add("orders", `{"a":1}`, "x", "http://h/é?a=<b>")
	f.Add("t", `"é\u0000"`, "\x00\xff", "%")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, topic, value, header, source string) {
		ce, err := parseCloudEvent(CloudEvent{Source: escapeBraces(source), Extensions: map[string]string{"trace": "{header.h}"}}, "r")
		require.NoError(t, err)
		ev := &pghub.Event{Topic: topic, Key: []int64{1, 2}, Record: &pghub.Record{Headers: map[string]string{"h": header}}}
		if value != "" {
			ev.Value = json.RawMessage(value)
		}
		w := writer{
			format: CloudEvents, ce: ce, target: &template{}, gapTarget: &template{}, partitionKey: &template{}, route: "r",
		}
		m := &Message{ID: "1.2.3", Route: "r"}
		if err := w.write(ev, m); err != nil {
			return // refused: a value that is not JSON, a topic that is empty, a source that is no URI
		}
		var all map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(m.Body, &all), "%s", m.Body)
		attributes, err := ce.attributes(ev, m)
		require.NoError(t, err)
		for name, text := range attributes {
			var got string
			require.NoError(t, json.Unmarshal(all[name], &got), "%s: %s", name, m.Body)
			require.Equal(t, string([]rune(text)), got) // a byte that is not UTF-8 is U+FFFD
		}
		if value != "" {
			require.JSONEq(t, value, string(all["data"]))
		}
		for _, name := range []string{"specversion", "id", "source", "type"} {
			require.NotEmpty(t, attributes[name], name)
		}
	})
}

// A pattern's * is any text; everything else is itself.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, topic string
		is             bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "ab", false},
		{"*", "", true},
		{"*", "abc", true},
		{"a*", "a", true},
		{"a*", "ba", false},
		{"*a", "aba", true},
		{"a*c", "abcbc", true},
		{"a*c", "ab", false},
		{"a*b*c", "axbxbxc", true},
		{"**", "x", true},
		{"a.b", "axb", false},
		{"", "", true},
		{"", "a", false},
		{"?", "a", false},
	} {
		require.Equal(t, c.is, Matches(c.pattern, c.topic), "%q %q", c.pattern, c.topic)
	}
}

// Positions as two numbers rise as positions do.
func TestTickOrdinal(t *testing.T) {
	order := []pghub.Position{
		{Tick: 1, Txn: 3, ID: 2},
		{Tick: 1, Txn: 3, ID: 3},
		{Tick: 1, Txn: 5, ID: 1},
		{Tick: 1, Txn: 5, ID: 4},
		{Tick: 1, Txn: 5, ID: 5},
		{Tick: 1, Txn: 1 << 39, ID: 1<<39 - maxSpan + 1},
		{Tick: 1, Txn: 1 << 39, ID: 1 << 39},
		{Tick: 2, Txn: 6, ID: 6},
	}
	var lastTick, lastOrdinal uint64
	for _, p := range order {
		tick, ordinal := (&Message{Position: p}).TickOrdinal()
		require.True(t, tick > lastTick || tick == lastTick && ordinal > lastOrdinal, p)
		lastTick, lastOrdinal = tick, ordinal
	}
	tick, ordinal := (&Message{Position: pghub.Position{Tick: 9, ID: 4}}).TickOrdinal()
	require.Equal(t, []uint64{9, 4}, []uint64{tick, ordinal}, "a source whose ticks are transactions")
	tick, ordinal = (&Message{}).TickOrdinal()
	require.Zero(t, tick+ordinal)
}
