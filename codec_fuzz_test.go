package pghub

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
