package pghub

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
