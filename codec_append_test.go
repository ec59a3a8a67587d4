package pghub

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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

func (codecByte) MarshalText() ([]byte, error) { return []byte("\xff"), nil }

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

type (
	textOf    struct{ text []byte } // writes it as text
	jsonOf    struct{ text []byte } // encodes it by itself
	ptrTextOf struct{ text []byte } // as textOf, where it can be addressed
	textKey   struct{ text byte }
	jsonKey   string // is a string to the encoder, whatever it has to say as JSON
	rawText   []byte // is JSON as it is
)

func (v textOf) MarshalText() ([]byte, error) { return v.text, nil }

func (v jsonOf) MarshalJSON() ([]byte, error) { return json.Marshal(string(v.text)) }

func (v *ptrTextOf) MarshalText() ([]byte, error) { return v.text, nil }

func (v textKey) MarshalText() ([]byte, error) { return []byte{v.text}, nil }

func (jsonKey) MarshalJSON() ([]byte, error) { return []byte(`"fine"`), nil }

func (v rawText) MarshalJSON() ([]byte, error) { return v, nil }

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
