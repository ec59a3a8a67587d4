package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
)

// order is an event with all that one can have.
func order() bridge.Item {
	return bridge.Item{Event: &pghub.Event{
		Topic: "orders", Key: []int64{7}, Value: json.RawMessage(`{"state":"paid"}`), Payload: []byte(`e7:{"state":"paid"}`),
		Record: &pghub.Record{
			Position: pghub.Position{Tick: 1700000000000, Txn: 9, ID: 8}, Time: time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC),
			Headers: map[string]string{"trace": "x", "kept": "y"},
		},
	}}
}

// sent is what a route makes of an event.
func sent(t *testing.T, item bridge.Item, change func(*bridge.Route)) *bridge.Message {
	t.Helper()
	sink := newBroker()
	s, _, _ := scripted(t, sink, change)
	s.deliveries <- []bridge.Item{item}
	require.Equal(t, answer{}, <-s.answers)
	require.Len(t, sink.all(), 1)
	return sink.all()[0]
}

// The body in each format, and its content type.
func TestFormats(t *testing.T) {
	const attributes = `"specversion":"1.0","id":"1700000000000.9.8","source":"/pghub/r","type":"orders","subject":"7","time":"2026-01-02T03:04:05.6Z"`
	for format, want := range map[bridge.Format][2]string{
		bridge.Value:             {`{"state":"paid"}`, "application/json"},
		bridge.Payload:           {`e7:{"state":"paid"}`, "text/plain; charset=utf-8"},
		bridge.EventJSON:         {`{"topic":"orders","key":[7],"value":{"state":"paid"}}`, "application/json"},
		bridge.CloudEvents:       {`{` + attributes + `,"datacontenttype":"application/json","data":{"state":"paid"}}`, "application/cloudevents+json"},
		bridge.CloudEventsBinary: {`{"state":"paid"}`, "application/json"},
	} {
		m := sent(t, order(), func(r *bridge.Route) { r.Format = format })
		require.Equal(t, want, [2]string{string(m.Body), m.ContentType}, format)
		require.Equal(t, "1700000000000.9.8", m.ID)
		require.Equal(t, order().Event.Record.Position, m.Position)
		if format != bridge.CloudEventsBinary {
			require.Nil(t, m.Attributes)
			continue
		}
		text, err := json.Marshal(m.Attributes)
		require.NoError(t, err)
		require.JSONEq(t, `{`+attributes+`}`, string(text))
	}
}

// Templates fill target, partition key, headers and the attributes of a CloudEvent. Edit has the last word.
func TestWhatARouteMakesOfAnEvent(t *testing.T) {
	m := sent(t, order(), func(r *bridge.Route) {
		r.Target, r.PartitionKey = "shop.{topic}.{value.state}", "{key}"
		r.Headers = map[string]string{"trace": "route {route}", "state": "{value.state}", "missing": "{value.missing}"}
		r.Format = bridge.CloudEventsBinary
		r.ContentType = "application/vnd.order+json"
		r.CloudEvent = bridge.CloudEvent{
			Source: "https://example.com/{route}", Type: "com.example.{topic}", Subject: "order/{key.0}",
			Extensions: map[string]string{"traceparent": "{header.trace}", "missing": "{value.missing}"},
		}
		r.Edit = func(ev *pghub.Event, m *bridge.Message) error {
			m.Target += "." + string(ev.Payload[:1])
			return nil
		}
	})
	require.Equal(t, []string{"shop.orders.paid.e", "7", "application/vnd.order+json"}, []string{m.Target, m.PartitionKey, m.ContentType})
	require.Equal(t, map[string]string{"trace": "route r", "state": "paid", "kept": "y"}, m.Headers)
	require.Equal(t, map[string]string{
		"specversion": "1.0", "id": "1700000000000.9.8", "source": "https://example.com/r", "type": "com.example.orders", "subject": "order/7",
		"time": "2026-01-02T03:04:05.6Z", "traceparent": "x",
	}, m.Attributes)
}

// Events are shared with other consumers: a route that adds headers adds them to its message alone.
func TestTheHeadersOfAnEventAreNotChanged(t *testing.T) {
	item := order()
	m := sent(t, item, func(r *bridge.Route) { r.Headers = map[string]string{"trace": "mine", "more": "x"} })
	require.Equal(t, map[string]string{"trace": "mine", "more": "x", "kept": "y"}, m.Headers)
	require.Equal(t, map[string]string{"trace": "x", "kept": "y"}, item.Event.Record.Headers)
}

// An event that cannot be written as the route wants it is refused, with the reason, and the others go.
func TestWhatCannotBeWrittenIsRefused(t *testing.T) {
	noJSON := order()
	noJSON.Event.Value = json.RawMessage(`{`)
	unwanted := errors.New("unwanted")
	for want, change := range map[string]func(*bridge.Route){
		"not JSON":        func(*bridge.Route) {},
		"{value.missing}": func(r *bridge.Route) { r.Target = "{value.missing}" },
		"partition key":   func(r *bridge.Route) { r.PartitionKey = "{header.missing}" },
		"unwanted": func(r *bridge.Route) {
			r.Edit = func(*pghub.Event, *bridge.Message) error { return unwanted }
			r.Format = bridge.Payload
		},
		"Edit: a mistake": func(r *bridge.Route) {
			r.Edit = func(*pghub.Event, *bridge.Message) error { panic("a mistake") }
			r.Format = bridge.Payload
		},
	} {
		sink := newBroker()
		s, b, _ := scripted(t, sink, change)
		s.deliveries <- []bridge.Item{noJSON}
		got := <-s.answers
		require.NoError(t, got.err)
		require.Len(t, got.refused, 1)
		require.ErrorContains(t, got.refused[0].Reason, want)
		require.Empty(t, sink.all())
		require.EqualValues(t, 1, figures(b).Refused)
	}
}

// An event without a position has an ID of its own, which is the same when it is tried again.
func TestIDsWithoutPositions(t *testing.T) {
	sink := newBroker()
	ids := make(chan string, 10)
	failures := 1
	sink.answer = func(_ context.Context, _ int, batch []*bridge.Message) error {
		for _, m := range batch {
			ids <- m.ID
		}
		if failures--; failures >= 0 {
			return errAway
		}
		return nil
	}
	s, _, _ := scripted(t, sink, nil)
	item := bridge.Item{Event: &pghub.Event{Topic: "t", Value: json.RawMessage("1")}}
	s.deliveries <- []bridge.Item{item}
	require.Equal(t, answer{}, <-s.answers)
	s.deliveries <- []bridge.Item{item}
	require.Equal(t, answer{}, <-s.answers)
	first, again, other := <-ids, <-ids, <-ids
	require.Equal(t, first, again)
	require.NotEqual(t, first, other)
	require.NotEmpty(t, first)
}

// A gap is counted and reported, and goes on as a message of its own to a sink that takes such, in its place.
func TestGaps(t *testing.T) {
	gap := bridge.Item{Gap: &bridge.Gap{Since: time.Unix(1700000000, 0).UTC(), Dropped: 3, Reason: "why"}}
	for _, takes := range []bool{true, false} {
		sink := newBroker()
		sink.gaps = takes
		s, b, tr := scripted(t, sink, func(r *bridge.Route) {
			r.Target, r.GapTarget, r.PartitionKey = "{value.missing|x}", "gaps/{topic}", "{key}"
		})
		s.deliveries <- []bridge.Item{event(1), gap, event(2)}
		require.Equal(t, answer{}, <-s.answers)
		require.EqualValues(t, 1, figures(b).Gaps)
		eventually(t, "OnError is told", func() bool { return tr.has("why") })
		if !takes {
			require.Equal(t, words(1, 2), bodies(sink.all()))
			continue
		}
		require.Equal(t, []string{"1", `{"since":"2023-11-14T22:13:20Z","dropped":3,"reason":"why"}`, "2"}, bodies(sink.all()))
		m := sink.all()[1]
		require.Equal(t, gap.Gap, m.Gap)
		require.Equal(t, []string{"pghub.gap", "gaps/pghub.gap"}, []string{m.Topic, m.Target})
		require.NotEmpty(t, m.ID)
	}
}

// Formats have names.
func TestFormatNames(t *testing.T) {
	for f := bridge.Value; f <= bridge.CloudEventsBinary; f++ {
		text, err := f.MarshalText()
		require.NoError(t, err)
		var again bridge.Format
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, f, again)
	}
	var f bridge.Format
	require.ErrorContains(t, f.UnmarshalText([]byte("xml")), "cloudevents-binary")
}
