package pghub

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/source"
)

// codecDecode decodes a payload as the hub does when it arrives.
func codecDecode(c Codec, payload string) (*Event, error) {
	ev := codecArrival("t", payload)
	return ev, decodeSafely(c, ev)
}

// The wire format, in both directions. What clients of other languages send and expect is exactly this.
var wireVectors = []struct {
	payload string
	key     []int64
	value   any
	json    string // of the value, as it is on the wire; "" for none
}{
	{`e`, nil, nil, ``},
	{`e1,2,3,4`, []int64{1, 2, 3, 4}, nil, ``},
	{`e5:{}`, []int64{5}, struct{}{}, `{}`},
	{`e:{"a":2,"b":{"d":1,"e":"$$"}}`, nil, map[string]any{"a": 2, "b": map[string]any{"d": 1, "e": "$$"}}, `{"a":2,"b":{"d":1,"e":"$$"}}`},
	{`e-9223372036854775808,9223372036854775807:"John Malkovich?"`, []int64{math.MinInt64, math.MaxInt64}, "John Malkovich?", `"John Malkovich?"`},

	{`e0`, []int64{0}, nil, ``},
	{`e-1`, []int64{-1}, nil, ``},
	{`e1,-2,3,-4,5,-6`, []int64{1, -2, 3, -4, 5, -6}, nil, ``},
	{`e101:[1,"two",null]`, []int64{101}, []any{1, "two", nil}, `[1,"two",null]`},
	{`e:0`, nil, 0, `0`},
	{`e:false`, nil, false, `false`},
	{`e:""`, nil, "", `""`},
	{`e:9223372036854775807`, nil, int64(math.MaxInt64), `9223372036854775807`},
	{`e:18446744073709551615`, nil, uint64(math.MaxUint64), `18446744073709551615`},
	{`e:"<b>&é€😀:,e"`, nil, "<b>&é€😀:,e", `"<b>&é€😀:,e"`},
	{`e:"\u0000\n\"\\"`, nil, "\x00\n\"\\", `"\u0000\n\"\\"`},
}

func TestKeyValueCodecWire(t *testing.T) {
	for _, v := range wireVectors {
		t.Run(v.payload, func(t *testing.T) {
			b, err := KeyValueCodec{}.Append([]byte("before "), v.key, v.value)
			require.NoError(t, err)
			require.Equal(t, "before "+v.payload, string(b))

			for _, c := range []Codec{KeyValueCodec{}, KeyValueCodec{Strict: true}} {
				ev, err := codecDecode(c, v.payload)
				require.NoError(t, err)
				require.Equal(t, v.key, ev.Key)
				require.Equal(t, v.json, string(ev.Value))
				require.Equal(t, v.json == "", ev.Value == nil)
				require.Equal(t, v.payload, string(ev.Payload))
			}
		})
	}
}

// What a handler appends to the keys or the value of its event must not run into anything else.
func TestDecodedKeysAreTheEventsOwn(t *testing.T) {
	for _, payload := range []string{`e1`, `e1:2 `, `e1,2,3,4,5:2 `} {
		ev, err := codecDecode(KeyValueCodec{}, payload)
		require.NoError(t, err)
		require.Equal(t, len(ev.Key), cap(ev.Key), payload)
		require.Equal(t, len(ev.Value), cap(ev.Value), payload)
	}
}

func TestKeyValueCodecTakes(t *testing.T) {
	for _, v := range []struct {
		payload string
		key     []int64
		json    string
	}{
		{`e:null`, nil, ``},
		{`e7:null`, []int64{7}, ``},
		{`e7:null   `, []int64{7}, ``},
		{`e:`, nil, ``},
		{`e7:`, []int64{7}, ``},
		{"e7: \t\r\n", []int64{7}, ``},
		{"e7: \t\r\n{ \"a\" : 1 } \t\r\n", []int64{7}, `{ "a" : 1 }`},
		{`e:{"e":"\u0024\u0024"}`, nil, `{"e":"\u0024\u0024"}`},
		{`e-0,007`, []int64{0, 7}, ``},
	} {
		ev, err := codecDecode(KeyValueCodec{Strict: true}, v.payload)
		require.NoError(t, err, v.payload)
		require.Equal(t, v.key, ev.Key, v.payload)
		require.Equal(t, v.json, string(ev.Value), v.payload)
		require.Equal(t, v.json == "", ev.Value == nil, v.payload)
	}
	ev, err := codecDecode(KeyValueCodec{}, `e:{"e":"\u0024\u0024"}`)
	require.NoError(t, err)
	v, err := Decode[map[string]string](ev)
	require.NoError(t, err)
	require.Equal(t, "$$", v["e"])
}

func TestKeyValueCodecRefuses(t *testing.T) {
	for payload, want := range map[string]error{
		``:                      errNoE,
		`E1`:                    errNoE,
		` e`:                    errNoE,
		`{"a":1}`:               errNoE,
		`1,2`:                   errNoE,
		`e,`:                    errEmptyKey,
		`e,1`:                   errEmptyKey,
		`e1,`:                   errEmptyKey,
		`e1,:{}`:                errEmptyKey,
		`e1,,2`:                 errEmptyKey,
		`e-`:                    errEmptyKey,
		`e--1`:                  errEmptyKey,
		`e+1`:                   errEmptyKey,
		`e 1`:                   errEmptyKey,
		`e{}`:                   errEmptyKey,
		`ee`:                    errEmptyKey,
		`e/1`:                   errEmptyKey,
		`e٣`:                    errEmptyKey, // a digit, but not one of ours
		`e1 `:                   errAfterKey,
		`e1 ,2`:                 errAfterKey,
		`e1-2`:                  errAfterKey,
		`e1.5`:                  errAfterKey,
		`e1e5`:                  errAfterKey,
		`e1;`:                   errAfterKey,
		`e9223372036854775808`:  errKeyOverflow,
		`e-9223372036854775809`: errKeyOverflow,
		`e9223372036854775810`:  errKeyOverflow,
		`e18446744073709551615`: errKeyOverflow,
		`e18446744073709551616`: errKeyOverflow,
		`e18446744073709551617`: errKeyOverflow,
		`e1,99999999999999999999999999999999999999999`: errKeyOverflow,
	} {
		for _, c := range []Codec{KeyValueCodec{}, KeyValueCodec{Strict: true}} {
			_, err := codecDecode(c, payload)
			require.ErrorIs(t, err, want, "%q", payload)
		}
	}
}

// Checking every value costs more than all the rest of receiving, so it is a choice.
func TestStrict(t *testing.T) {
	for _, value := range []string{`{}x`, `{} {}`, `"a" "b"`, `{`, `'a'`, `nul`, `NULL`, `01`, `:`, `,`, `{"a":1,}`, "\"\n\"", `"\ud8zz"`} {
		for payload, c := range map[string]struct{ strict, lenient Codec }{
			"e1:" + value: {KeyValueCodec{Strict: true}, KeyValueCodec{}},
			value:         {JSONCodec{Strict: true}, JSONCodec{}},
		} {
			_, err := codecDecode(c.strict, payload)
			require.ErrorIs(t, err, errInvalidJSON, payload)

			ev, err := codecDecode(c.lenient, payload)
			require.NoError(t, err, payload)
			require.Equal(t, value, string(ev.Value))
			var v any
			refused := ev.Decode(&v)
			var decodeErr *DecodeError
			require.ErrorAs(t, refused, &decodeErr, payload)
		}
	}
}

func TestJSONCodec(t *testing.T) {
	b, err := JSONCodec{}.Append([]byte("x"), nil, map[string]any{"a": "<é>"})
	require.NoError(t, err)
	require.Equal(t, `x{"a":"<é>"}`, string(b))
	b, err = JSONCodec{}.Append(nil, []int64{}, nil)
	require.NoError(t, err)
	require.Equal(t, `null`, string(b))
	_, err = JSONCodec{}.Append(nil, []int64{1}, nil)
	require.ErrorIs(t, err, ErrValue)

	for payload, value := range map[string]string{`{"a":1}`: `{"a":1}`, ` [1] `: `[1]`, `"e1"`: `"e1"`, ``: ``, ` null `: ``, `e1`: `e1`} {
		ev, err := codecDecode(JSONCodec{}, payload)
		require.NoError(t, err)
		require.Nil(t, ev.Key)
		require.Equal(t, value, string(ev.Value), payload)
		require.Equal(t, value == "", ev.Value == nil, payload)
	}
}

func TestRawCodec(t *testing.T) {
	for _, value := range []any{"é:1 ", []byte("é:1 ")} {
		b, err := RawCodec{}.Append([]byte("x"), nil, value)
		require.NoError(t, err)
		require.Equal(t, "xé:1 ", string(b))
	}
	b, err := RawCodec{}.Append(nil, nil, nil)
	require.NoError(t, err)
	require.Empty(t, b)

	_, err = RawCodec{}.Append(nil, []int64{1}, "a")
	require.ErrorIs(t, err, ErrValue)
	_, err = RawCodec{}.Append(nil, nil, 7)
	require.ErrorIs(t, err, ErrValue)
	require.ErrorContains(t, err, "int")

	for _, payload := range []string{``, `e--1`, ` {"a":`, `e1:{}`} {
		ev, err := codecDecode(RawCodec{}, payload)
		require.NoError(t, err)
		require.Nil(t, ev.Key)
		require.Nil(t, ev.Value)
		require.Equal(t, payload, string(ev.Payload))
	}
}

type codecNode struct{ Next *codecNode }

func TestAppendValues(t *testing.T) {
	type inner struct {
		Text string `json:"text"`
	}
	var nilPointer *inner
	for name, v := range map[string]struct {
		value any
		want  string
	}{
		"json.RawMessage":            {json.RawMessage(` { "a" : "\u0024 <" } `), `e:{"a":"\u0024 <"}`},
		"json.RawMessage null":       {json.RawMessage(` null `), `e`},
		"json.RawMessage nil":        {json.RawMessage(nil), `e`},
		"json.Number":                {json.Number("123456789012345678901234567890.10"), `e:123456789012345678901234567890.10`},
		"[]byte":                     {[]byte("\xff\x00"), `e:"/wA="`},
		"nil pointer":                {nilPointer, `e`},
		"nil map":                    {map[string]int(nil), `e`},
		"nil slice":                  {[]int(nil), `e`},
		"pointer":                    {&inner{"a"}, `e:{"text":"a"}`},
		"the replacement character":  {"\ufffd", `e:"` + "\ufffd" + `"`},
		"it deep inside":             {map[string]any{"\ufffd": []inner{{"\ufffd"}}}, `e:{"` + "\ufffd" + `":[{"text":"` + "\ufffd" + `"}]}`},
		"it as an escape":            {json.RawMessage(`"\ufffd"`), `e:"\ufffd"`},
		"what looks like its escape": {`\ufffd`, `e:"\\ufffd"`},
		"an invalid lone surrogate":  {json.RawMessage(`"\ud800"`), `e:"\ud800"`},
		"float":                      {1e300, `e:1e+300`},
		"line separator":             {"\u2028", `e:"\u2028"`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := KeyValueCodec{}.Append(nil, nil, v.value)
			require.NoError(t, err)
			require.Equal(t, v.want, string(b))
		})
	}
}

// A string goes the short way if its characters stand for themselves. Each character alone, among ones that do, arrives as it was.
func TestAppendEachCharacter(t *testing.T) {
	for c := range rune(0x100) {
		text := "a" + string(c) + "b"
		b, err := KeyValueCodec{}.Append(nil, nil, text)
		require.NoError(t, err)
		var back string
		require.NoError(t, json.Unmarshal(b[len("e:"):], &back), "%q", b)
		require.Equal(t, text, back)
	}
}

func TestAppendRefuses(t *testing.T) {
	cycle := &codecNode{}
	cycle.Next = cycle
	const bad = "a\xffb"
	badString, badText := bad, codecText(bad)
	for name, value := range map[string]any{
		"channel":                   make(chan int),
		"function":                  func() {},
		"NaN":                       math.NaN(),
		"infinity":                  math.Inf(1),
		"cycle":                     cycle,
		"failing MarshalJSON":       codecFailing{},
		"invalid json.RawMessage":   json.RawMessage(`{`),
		"invalid json.Number":       json.Number("1x"),
		"string":                    bad,
		"named string":              codecText(bad),
		"string in a struct":        struct{ A string }{bad},
		"pointer to it":             &struct{ A *codecText }{&badText},
		"string in a map":           map[string]any{"a": bad},
		"key of a map":              map[string]int{bad: 1},
		"string in a slice":         []string{"", bad},
		"string in an array":        [1]any{bad},
		"byte that is a text":       []codecByte{'a'},
		"string deep inside":        map[string]any{"a": []any{map[string]any{"b": []*string{nil, &badString}}}},
		"embedded":                  struct{ codecEmbedded }{codecEmbedded{bad}},
		"surrogate encoded as such": "\xed\xa0\x80",
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []Codec{KeyValueCodec{}, JSONCodec{}} {
				_, err := c.Append(nil, nil, value)
				require.ErrorIs(t, err, ErrValue)
			}
		})
	}
}

type (
	codecFailing  struct{}
	codecText     string
	codecByte     byte
	codecEmbedded struct{ Text string }
)

var errCodecTest = errors.New("not today")

func (codecFailing) MarshalJSON() ([]byte, error) { return nil, errCodecTest }
func (codecByte) MarshalText() ([]byte, error)    { return []byte("\xff"), nil }

func TestAppendKeepsTheCause(t *testing.T) {
	_, err := KeyValueCodec{}.Append(nil, nil, codecFailing{})
	require.ErrorIs(t, err, errCodecTest)
	var unsupported *json.UnsupportedTypeError
	_, err = KeyValueCodec{}.Append(nil, nil, make(chan int))
	require.ErrorAs(t, err, &unsupported)
}

func TestBigValue(t *testing.T) {
	value := strings.Repeat("é", 3990)
	b, err := KeyValueCodec{}.Append(nil, []int64{1}, value)
	require.NoError(t, err)
	require.NoError(t, checkPayload("t", b))
	ev, err := codecDecode(KeyValueCodec{Strict: true}, string(b))
	require.NoError(t, err)
	back, err := Decode[string](ev)
	require.NoError(t, err)
	require.Equal(t, value, back)
}

// PostgreSQL folds equal notifications of a transaction into one: equal events are sent in different spellings.
func TestPad(t *testing.T) {
	for _, c := range []Codec{KeyValueCodec{}, KeyValueCodec{Strict: true}, JSONCodec{}} {
		var payloads []string
		for _, v := range wireVectors {
			if b, err := c.Append(nil, v.key, v.value); err == nil {
				payloads = append(payloads, string(b))
			}
		}
		require.GreaterOrEqual(t, len(payloads), 5)
		seen := make(map[string]bool)
		for _, payload := range payloads {
			want, err := codecDecode(c, payload)
			require.NoError(t, err)
			seen[payload] = true
			for n := 1; n <= 300; n++ {
				padded := padOf(c)(payload, n)
				again, err := codecDecode(c, padded)
				require.NoError(t, err)
				require.Equal(t, want.Key, again.Key, "%q", padded)
				require.Equal(t, want.Value, again.Value, "%q", padded)
				require.False(t, seen[padded], "%q has been sent before", padded)
				seen[padded] = true
				require.LessOrEqual(t, len(padded), len(payload)+len(":null")+5)
			}
		}
	}
}

// A codec that embeds one of ours may encrypt what that one writes: blanks behind it would ruin it.
func TestPadLeavesOthersAlone(t *testing.T) {
	require.Nil(t, padOf(struct{ KeyValueCodec }{}))
	require.Nil(t, padOf(codecPanicking{}))
	require.Nil(t, padOf(RawCodec{}))
}

func TestDecodeAllocates(t *testing.T) {
	burst := []source.Message{codecNotification("topic", `e1,2,3,4:{"a":1}`)}
	allocs := testing.AllocsPerRun(100, func() {
		ev := newEvents("topic", burst)[0]
		if err := decodeSafely(KeyValueCodec{Strict: true}, ev); err != nil {
			panic(err)
		}
	})
	require.LessOrEqual(t, allocs, 2.0)
}

func TestDecodeSurvivesPanic(t *testing.T) {
	_, err := codecDecode(codecPanicking{}, "e")
	require.ErrorIs(t, err, ErrPanic)
	require.ErrorContains(t, err, "oops")
}

type codecPanicking struct{ KeyValueCodec }

func (codecPanicking) Decode(*Event) error { panic("oops") }

func TestCheckTopic(t *testing.T) {
	for _, c := range limitTopics {
		err := checkTopic(c.topic)
		if c.valid {
			require.NoError(t, err, c.name)
		} else {
			require.ErrorIs(t, err, ErrTopic, c.name)
		}
	}
	require.ErrorContains(t, checkTopic(strings.Repeat("x", 64)), "63", "the limit is told")
}

var limitTopics = []struct {
	name, topic string
	valid       bool
}{
	{"1 byte", "a", true},
	{"63 bytes", strings.Repeat("x", 63), true},
	{"63 bytes in 21 runes", strings.Repeat("€", 21), true},
	{"64 bytes", strings.Repeat("x", 64), false},
	{"64 bytes in 16 runes", strings.Repeat("😀", 16), false},
	{"64 bytes, the last rune cut by the limit", strings.Repeat("x", 62) + "é", false},
	{"empty", "", false},
	{"NUL", "a\x00b", false},
	{"invalid UTF-8", "a\xff", false},
	{"surrogate", "\xed\xa0\x80", false},
	{"upper case", "Orders", true},
	{"keyword", "user", true},
	{"quotes", `a"b'c""`, true},
	{"semicolon and comment", `a"; DROP TABLE t; --`, true},
	{"spaces", " a  b ", true},
	{"backslash and dollar", `a\b$1$$`, true},
	{"newline and control", "a\n\t\x01", true},
	{"emoji", "📬", true},
	{"asterisk", "*", true},
}

var limitPayloads = []struct {
	name, payload string
	refusal       error
}{
	{"empty", "", nil},
	{"7999 bytes", strings.Repeat("x", 7999), nil},
	{"7999 bytes of multi-byte runes", "x" + strings.Repeat("é", 3999), nil},
	{"8000 bytes", strings.Repeat("x", 8000), ErrPayloadTooLarge},
	{"8000 bytes of multi-byte runes", strings.Repeat("é", 4000), ErrPayloadTooLarge},
	{"NUL", "a\x00", ErrValue},
	{"invalid UTF-8", "a\xc3", ErrValue},
	{"surrogate", "\xed\xa0\x80", ErrValue},
	{"blanks and newlines", " \n\t ", nil},
	{"noncharacter", "\uffff\U0010ffff", nil},
}

// The hub refuses exactly what the server refuses: one such event would fail the whole batch that it rides in.
func TestLimitsAgreeWithServer(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	accepts := func(topic, payload string) bool {
		_, err := pool.Exec(t.Context(), notifySQL, topic, payload)
		var refused *pgconn.PgError
		if err != nil {
			require.ErrorAs(t, err, &refused)
			require.True(t, refusesOne(err), "the publisher takes %v for an error about all of a batch", err)
		}
		return err == nil
	}
	for _, c := range limitTopics {
		require.Equal(t, c.valid, accepts(c.topic, ""), c.name)
	}
	for _, c := range limitPayloads {
		require.Equal(t, c.refusal == nil, accepts("t", c.payload), c.name)
		require.ErrorIs(t, checkPayload("t", []byte(c.payload)), c.refusal, c.name)
	}
}

// Every topic and payload within the limits arrives as it was sent, and nobody else's does.
func TestLimitsRoundTrip(t *testing.T) {
	hub, stream := liveHub(t, pgtest.Pool(t, pgtest.Database(t)), Config{Codec: RawCodec{}})
	var topics []string
	for _, c := range limitTopics {
		if c.valid {
			topics = append(topics, c.topic, strings.ToLower(c.topic))
		} else {
			require.ErrorIs(t, hub.Notify(t.Context(), c.topic, nil, nil), ErrTopic)
			require.ErrorIs(t, hub.NotifyPayload(t.Context(), c.topic, ""), ErrTopic)
		}
	}
	c, err := hub.Consumer(context.Background(), stream.handle, &ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	for i, topic := range topics {
		require.NoError(t, hub.NotifyPayload(t.Context(), topic, strconv.Itoa(i)))
		ev := stream.await(t, func(ev *Event) bool { return ev.Advisory == nil })
		require.Equal(t, topic, ev.Topic)
		require.Equal(t, strconv.Itoa(i), string(ev.Payload))
	}
	for _, p := range limitPayloads {
		err := hub.Notify(t.Context(), "a", nil, p.payload)
		require.ErrorIs(t, err, p.refusal, p.name)
		require.ErrorIs(t, hub.NotifyPayload(t.Context(), "a", p.payload), p.refusal, p.name)
		for range 2 {
			if p.refusal == nil {
				ev := stream.await(t, func(ev *Event) bool { return ev.Advisory == nil })
				require.Equal(t, p.payload, string(ev.Payload), p.name)
				require.NotNil(t, ev.Payload)
			}
		}
	}
	require.NoError(t, c.Unsubscribe(t.Context(), topics...))
}

// A value of exactly the limit passes with its keys counted in; one byte more is refused by name, with the limit.
func TestNotifyPayloadTooLarge(t *testing.T) {
	hub := unitHub(t, Config{Pool: unitPool()})
	payload, err := hub.encode("t", []int64{1}, strings.Repeat("x", 7999-len(`e1:""`)))
	require.NoError(t, err)
	require.Len(t, payload, 7999)
	_, err = hub.encode("t", []int64{1}, strings.Repeat("x", 8000-len(`e1:""`)))
	require.ErrorIs(t, err, ErrPayloadTooLarge)
	require.ErrorContains(t, err, "8000")
	require.ErrorContains(t, err, "7999")
	_, err = hub.encode("t", nil, json.RawMessage("\"\xff\""))
	require.ErrorIs(t, err, ErrValue)
	_, err = hub.encode("t", nil, strings.Repeat("\x00", 4))
	require.NoError(t, err, "JSON escapes NUL")
}

func FuzzKeyValueDecode(f *testing.F) {
	for _, v := range wireVectors {
		f.Add(v.payload)
	}
	for _, s := range []string{`e:null`, `e7:`, `e7: {} `, `e1,`, `e--1`, `e+1`, `e9223372036854775808`, `e1:{}x`, `e-0`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		ev, err := codecDecode(KeyValueCodec{}, payload)
		if err != nil {
			return
		}
		strict, err := codecDecode(KeyValueCodec{Strict: true}, payload)
		if err != nil {
			require.ErrorIs(t, err, errInvalidJSON)
			require.False(t, json.Valid(ev.Value))
			return
		}
		require.Equal(t, ev.Key, strict.Key)
		require.Equal(t, ev.Value, strict.Value)

		var value any
		if ev.Value != nil {
			value = ev.Value
		}
		b, err := KeyValueCodec{}.Append(nil, ev.Key, value)
		require.NoError(t, err)
		again, err := codecDecode(KeyValueCodec{Strict: true}, string(b))
		require.NoError(t, err)
		require.Equal(t, ev.Key, again.Key)
		if ev.Value == nil {
			require.Nil(t, again.Value)
			return
		}
		first, err := Decode[any](ev)
		require.NoError(t, err)
		second, err := Decode[any](again)
		require.NoError(t, err)
		assert.Equal(t, first, second)
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1), int64(-2), uint8(2), "text", "key", 1.5, true)
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), uint8(2), "\xff", "\ufffd", 0.0, false)
	f.Add(int64(0), int64(0), uint8(0), "<&>\u2028\x00", `\ufffd`, math.MaxFloat64, false)
	f.Fuzz(func(t *testing.T, k1, k2 int64, keys uint8, text, name string, number float64, flag bool) {
		key := []int64{k1, k2}[:keys%3]
		if len(key) == 0 {
			key = nil
		}
		type value struct {
			Text   string
			Map    map[string]int64
			Number float64
			Flag   *bool
		}
		sent := value{Text: text, Map: map[string]int64{name: k1}, Number: number, Flag: &flag}
		b, err := KeyValueCodec{}.Append(nil, key, sent)
		if !validUTF8(text, name) || math.IsNaN(number) || math.IsInf(number, 0) {
			require.ErrorIs(t, err, ErrValue)
			return
		}
		require.NoError(t, err)
		for n := range 3 {
			payload := string(b)
			if n > 0 {
				payload = padKeyValue(payload, n)
			}
			ev, err := codecDecode(KeyValueCodec{Strict: true}, payload)
			require.NoError(t, err)
			require.Equal(t, key, ev.Key)
			got, err := Decode[value](ev)
			require.NoError(t, err)
			require.Equal(t, sent, got)
		}
	})
}

type (
	textOf    struct{ text []byte } // writes it as text
	jsonOf    struct{ text []byte } // encodes it by itself
	ptrTextOf struct{ text []byte } // as textOf, where it can be addressed
	textKey   struct{ text byte }
	jsonKey   string // is a string to the encoder, whatever it has to say as JSON
	rawText   []byte // is JSON as it is
)

func (v textOf) MarshalText() ([]byte, error)     { return v.text, nil }
func (v jsonOf) MarshalJSON() ([]byte, error)     { return json.Marshal(string(v.text)) }
func (v *ptrTextOf) MarshalText() ([]byte, error) { return v.text, nil }
func (v textKey) MarshalText() ([]byte, error)    { return []byte{v.text}, nil }
func (jsonKey) MarshalJSON() ([]byte, error)      { return []byte(`"fine"`), nil }
func (v rawText) MarshalJSON() ([]byte, error)    { return v, nil }

// Text that is not UTF-8 is refused wherever it comes from: the encoder would replace it in silence.
func TestCodecRefusesWhatMarshalersMakeOfInvalidText(t *testing.T) {
	invalid := map[string]any{
		"text":                       textOf{[]byte("\xff")},
		"text, deep":                 map[string]any{"a": []any{textOf{[]byte("\xff")}}},
		"text by pointer":            &ptrTextOf{[]byte("\xff")},
		"text of an addressed field": &struct{ V ptrTextOf }{ptrTextOf{[]byte("\xff")}},
		"text of an embedded field":  struct{ textOf }{textOf{[]byte("\xff")}},
		"JSON":                       jsonOf{[]byte("\xff")},
		"JSON, deep":                 []any{jsonOf{[]byte("\xff")}},
		"JSON by pointer":            &jsonOf{[]byte("\xff")},
		"key of text":                map[textKey]int{{'\xff'}: 1},
		"key by pointer":             map[*textKey]int{{'\xff'}: 1},
		"key of JSON":                map[jsonKey]int{"\xff": 1},
	}
	for name, value := range invalid {
		t.Run(name, func(t *testing.T) {
			_, err := KeyValueCodec{}.Append(nil, nil, value)
			require.ErrorIs(t, err, ErrValue)
		})
	}
	escape := json.RawMessage("\"\\ufffd\"")
	valid := map[string]any{
		"text":                   textOf{[]byte("\ufffd")},
		"JSON":                   jsonOf{[]byte("\ufffd")},
		"escape, raw":            rawText(escape),
		"escape, by pointer":     &escape,
		"escape beside the rest": []any{escape, textOf{[]byte("a")}, jsonOf{[]byte("a")}, map[textKey]any{{'a'}: nil}, map[*textKey]int{{'a'}: 1}, map[*ptrTextOf]int{nil: 1}, (*textOf)(nil), (*jsonOf)(nil), nil},
		"what is not written": struct {
			A json.RawMessage
			B string `json:"-"`
			c string
		}{escape, "\xff", "\xff"},
	}
	for name, value := range valid {
		t.Run("valid "+name, func(t *testing.T) {
			payload, err := KeyValueCodec{}.Append(nil, nil, value)
			require.NoError(t, err)
			want, err := json.Marshal(value)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(payload[2:]))
		})
	}
}
