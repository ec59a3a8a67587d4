package pghub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pghub/pghub/internal/source"
	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	type order struct {
		ID    int64  `json:"id"`
		State string `json:"state"`
	}
	ev, err := codecDecode(KeyValueCodec{}, `e7: {"id":9223372036854775807,"state":"paid"} `)
	require.NoError(t, err)
	got, err := Decode[order](ev)
	require.NoError(t, err)
	require.Equal(t, order{math.MaxInt64, "paid"}, got)

	var into order
	require.NoError(t, ev.Decode(&into))
	require.Equal(t, got, into)

	pointer, err := Decode[*order](ev)
	require.NoError(t, err)
	require.Equal(t, &got, pointer)
}

// A number that goes into an interface keeps every digit.
func TestDecodeKeepsDigits(t *testing.T) {
	ev, err := codecDecode(KeyValueCodec{}, `e:[9223372036854775807,{"a":-9223372036854775808},0.1000000000000000000000001]`)
	require.NoError(t, err)
	got, err := Decode[any](ev)
	require.NoError(t, err)
	require.Equal(t, []any{
		json.Number("9223372036854775807"),
		map[string]any{"a": json.Number("-9223372036854775808")},
		json.Number("0.1000000000000000000000001"),
	}, got)
	n, err := got.([]any)[0].(json.Number).Int64()
	require.NoError(t, err)
	require.Equal(t, int64(math.MaxInt64), n)
}

func TestDecodeNoValue(t *testing.T) {
	ev, err := codecDecode(KeyValueCodec{}, `e7`)
	require.NoError(t, err)
	v := 5
	require.NoError(t, ev.Decode(&v))
	require.Equal(t, 5, v, "as JSON null does, it leaves a number alone")
	pointer := &v
	require.NoError(t, ev.Decode(&pointer))
	require.Nil(t, pointer)
	got, err := Decode[any](ev)
	require.NoError(t, err)
	require.Nil(t, got)
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		value  string
		target any
		is     error // the cause, or
		typed  error // its type
	}{
		"trailing text":        {value: `{} x`, target: new(any), is: errTrailingText},
		"second value":         {value: `1 2`, target: new(any), is: errTrailingText},
		"trailing brace":       {value: `{}}`, target: new(any), is: errTrailingText},
		"cut short":            {value: `{"a":`, target: new(any), is: io.ErrUnexpectedEOF},
		"invalid":              {value: `nope`, target: new(any), typed: new(json.SyntaxError)},
		"another type":         {value: `"a"`, target: new(int), typed: new(json.UnmarshalTypeError)},
		"beyond the range":     {value: `300`, target: new(int8), typed: new(json.UnmarshalTypeError)},
		"fraction for integer": {value: `1.5`, target: new(int), typed: new(json.UnmarshalTypeError)},
		"no pointer":           {value: `1`, target: 1, typed: new(json.InvalidUnmarshalError)},
		"nil":                  {value: `1`, target: nil, typed: new(json.InvalidUnmarshalError)},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := codecDecode(KeyValueCodec{}, "e7:"+c.value)
			require.NoError(t, err)
			err = ev.Decode(c.target)
			var decodeErr *DecodeError
			require.ErrorAs(t, err, &decodeErr)
			require.Equal(t, "t", decodeErr.Topic)
			require.Equal(t, "e7:"+c.value, string(decodeErr.Payload))
			require.Equal(t, decodeErr.Err, errors.Unwrap(err))
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			} else {
				require.IsType(t, c.typed, decodeErr.Err)
			}
		})
	}
}

func TestDecodeErrorText(t *testing.T) {
	err := &DecodeError{Topic: `a"b`, Payload: []byte("x\n"), Err: errNoE}
	require.EqualError(t, err, `pghub: undecodable payload on topic "a\"b": no leading e: "x\n"`)
	err.Payload = []byte(strings.Repeat("x", 7999))
	require.Less(t, len(err.Error()), 200, "a long payload is not shown whole")
}

// The wording is shared with clients of other languages, to the letter.
func TestSupervisoryEvents(t *testing.T) {
	for value, a := range map[string]Advisory{
		`{"action":"connect","final":false}`:                  {Action: ActionConnect},
		`{"action":"disconnect","final":false}`:               {Action: ActionDisconnect, Err: io.EOF, Gap: Gap{Since: time.Unix(1, 0)}},
		`{"action":"reconnect","final":false}`:                {Action: ActionReconnect, Gap: Gap{Dropped: 3}},
		`{"action":"stop","final":true}`:                      {Action: ActionStop, Final: true},
		`{"action":"subscribe","topic":"name","final":false}`: {Action: ActionSubscribe, Topic: "name"},
		`{"action":"subscribe","topic":"<\"é","final":false}`: {Action: ActionSubscribe, Topic: `<"é`},
		`{"action":"close","final":true}`:                     {Action: ActionClose, Final: true, Err: ErrSlowConsumer, Dropped: 3},
	} {
		ev := newAdvisory(a)
		require.Equal(t, value, string(ev.Value))
		require.Equal(t, &a, ev.Advisory)
		require.Empty(t, ev.Topic)
		require.Nil(t, ev.Key)
		require.Nil(t, ev.Payload)
		b, err := ev.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, `{"topic":null,"key":[],"value":`+value+`}`, string(b))
	}

	lag := newLag(17)
	require.Equal(t, `{"action":"lag","dropped":17,"final":false}`, string(lag.Value))
	require.Equal(t, uint64(17), lag.Advisory.Dropped)
	require.Equal(t, uint64(17), lag.Advisory.Gap.Dropped, "Resync is told too")
	require.ErrorIs(t, lag.Advisory.Err, ErrSlowConsumer)
}

func TestEventMarshalJSON(t *testing.T) {
	for _, c := range []struct{ topic, payload, want string }{
		{"t", `e`, `{"topic":"t","key":[],"value":null}`},
		{"t", `e:null`, `{"topic":"t","key":[],"value":null}`},
		{`a"é<`, `e-1,2:{"a":[1,2]}`, `{"topic":"a\"é<","key":[-1,2],"value":{"a":[1,2]}}`},
		{"t", `e9223372036854775807: "x" `, `{"topic":"t","key":[9223372036854775807],"value":"x"}`},
	} {
		ev := codecArrival(c.topic, c.payload)
		require.NoError(t, KeyValueCodec{}.Decode(ev))
		b, err := ev.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, c.want, string(b))

		b, err = json.Marshal([]*Event{ev})
		require.NoError(t, err)
		require.JSONEq(t, "["+c.want+"]", string(b))
	}
}

func TestEventMarshalJSONRefuses(t *testing.T) {
	ev, err := codecDecode(KeyValueCodec{}, `e1:{}x`)
	require.NoError(t, err)
	_, err = ev.MarshalJSON()
	var decodeErr *DecodeError
	require.ErrorAs(t, err, &decodeErr)
	require.ErrorIs(t, err, errInvalidJSON)

	_, err = (&Event{Topic: "\xff"}).MarshalJSON() // made by somebody else
	require.ErrorIs(t, err, ErrValue)
}

// Events that arrive together share allocations, and nothing else: not their keys, not their text.
func TestEventsTogetherAreIndependent(t *testing.T) {
	var burst []source.Message
	for i := range 3*eventsTogether + 1 {
		value := strings.Repeat("x", i*i) // some fill a chunk of text alone
		burst = append(burst, codecNotification("t", fmt.Sprintf(`e%d,2,3:"%s"`, i, value)))
	}
	events := newEvents("t", burst)
	require.Len(t, events, len(burst))
	for _, ev := range events {
		require.NoError(t, KeyValueCodec{}.Decode(ev))
		_ = append(ev.Key, 99)
		_ = append(ev.Payload, "overwritten"...)
	}
	for i, ev := range events {
		require.Equal(t, []int64{int64(i), 2, 3}, ev.Key)
		require.Equal(t, string(burst[i].Payload), string(ev.Payload))
		require.Len(t, ev.Value, i*i+2)
	}
}

// What a consumer keeps of an event is not overwritten by the next one.
func TestEventsAreIndependent(t *testing.T) {
	n := []source.Message{codecNotification("t", `e1,2:"a" `)}
	first := newEvents("t", n)[0]
	require.NoError(t, KeyValueCodec{}.Decode(first))
	copy(n[0].Payload, `e3,4:"b" `)
	second := newEvents("t", n)[0]
	require.NoError(t, KeyValueCodec{}.Decode(second))
	require.Equal(t, []int64{1, 2}, first.Key)
	require.Equal(t, `"a"`, string(first.Value))
	require.Equal(t, []int64{3, 4}, second.Key)
	require.Equal(t, uint32(7), second.PID)

	_ = append(first.Key, 9)
	_ = append(first.Value, '9')
	require.Equal(t, `e1,2:"a" `, string(first.Payload))
	require.Equal(t, 2, cap(first.Key), "appending to a shared key makes a new one")
	require.Equal(t, 3, cap(first.Value))
}

// A supervisory event decodes into nothing: not into a Change either, whose action it would set.
func TestDecodeOfAnAdvisory(t *testing.T) {
	ev := newAdvisory(Advisory{Action: ActionConnect})
	_, err := Decode[Change](ev)
	var undecodable *DecodeError
	require.ErrorAs(t, err, &undecodable)
	require.ErrorIs(t, err, errAdvisory)
	require.ErrorIs(t, ev.Decode(new(any)), errAdvisory)
}

// A handler is told of an announced gap by the same payloads as a Resync.
func TestAnnouncesGap(t *testing.T) {
	for payload, announces := range map[string]bool{
		`e:{"pghub":"gap"}`: true, `e:{"pghub":"gap","op":"unmute"}`: true, `e:{"pghub":"gap",`: true,
		`e:{"pghub":"gapped"}`: false, `e:{"pghub":"gap"`: false, `e:{"pghub":"gap"x}`: false, `e1:{"pghub":"gap"}`: false, "e": false, "": false,
	} {
		require.Equal(t, announces, (&Event{Topic: "a", Payload: []byte(payload)}).AnnouncesGap(), payload)
	}
	require.False(t, (&Event{Advisory: &Advisory{Action: ActionLag}}).AnnouncesGap(), "the hub does")
}
