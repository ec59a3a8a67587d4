package pghub

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPositionsAsText(t *testing.T) {
	for text, p := range map[string]Position{
		"0":                 {0, math.MaxInt64, math.MaxInt64},
		"1795281233822":     {1795281233822, math.MaxInt64, math.MaxInt64},
		"1795281233822.7.5": {1795281233822, 7, 5},
		"9223372036854775807.9223372036854775806.1": {math.MaxInt64, math.MaxInt64 - 1, 1},
	} {
		require.Equal(t, text, p.String())
		parsed, err := ParsePosition(text)
		require.NoError(t, err, text)
		require.Equal(t, p, parsed)
		data, err := p.MarshalText()
		require.NoError(t, err)
		var q Position
		require.NoError(t, q.UnmarshalText(data))
		require.Equal(t, p, q)
	}
	for _, text := range []string{
		"", ".", "a", "-1", "+1", " 1", "1 ", "1.", "1.2", "1.2.3.4", "1..3", "1.-2.3", "1.+2.3", "9223372036854775808", "1.9223372036854775808.1", "0x1", "1_000", "\x001",
	} {
		_, err := ParsePosition(text)
		require.ErrorContains(t, err, "no position of a stream", "%q", text)
	}
}

func TestPositionsCompare(t *testing.T) {
	ordered := []Position{{}, {1, 0, 0}, {1, 0, 1}, {1, 2, 0}, {1, math.MaxInt64, math.MaxInt64}, {2, -1, 0}}
	for i, p := range ordered {
		for j, q := range ordered {
			switch {
			case i < j:
				require.Negative(t, p.Compare(q))
			case i == j:
				require.Zero(t, p.Compare(q))
			default:
				require.Positive(t, p.Compare(q))
			}
		}
		require.Equal(t, i == 0, p.IsZero())
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1.2.3")
	f.Add("1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
