package promises

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Every character arrives as it was sent, as a payload and within a JSON value.
func everyCharacter(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	raw, values := newStream(), watch(t, hub, "values")
	consume(t, hub, raw.handle, &pghub.ConsumerConfig{Topics: []string{"raw"}, Codec: pghub.RawCodec{}})
	raw.expect(t, "subscribe raw")
	values.expect(t, "subscribe values")
	const together = 1900 // characters of up to four bytes
	var text strings.Builder
	check := func() {
		payload := text.String()
		text.Reset()
		require.NoError(t, hub.NotifyPayload(within(t), "raw", payload))
		_, ev := raw.next(t)
		require.Equal(t, payload, string(ev.Payload))
	}
	n := 0
	for r := rune(1); r <= utf8.MaxRune; r++ {
		if r > 0x3000 && r < 0x1f000 && r%97 != 0 || r > 0x1ffff && r%997 != 0 || !utf8.ValidRune(r) {
			continue // a sample of those is enough
		}
		text.WriteRune(r)
		if n++; n%together == 0 {
			check()
		}
	}
	check()
	for r := rune(0); r < 0x3000; r += 500 {
		var sent strings.Builder
		for c := r; c < r+500; c++ {
			sent.WriteRune(c)
		}
		require.NoError(t, hub.Notify(within(t), "values", nil, sent.String()))
		_, ev := values.next(t)
		got, err := pghub.Decode[string](ev)
		require.NoError(t, err)
		require.Equal(t, sent.String(), got)
	}

	for _, size := range []int{0, 1, 7998, 7999} {
		payload := strings.Repeat("x", size)
		require.NoError(t, hub.NotifyPayload(within(t), "raw", payload))
		_, ev := raw.next(t)
		require.Equal(t, payload, string(ev.Payload))
	}
	for _, value := range []string{`0`, `-0.10e+30`, `123456789012345678901234567890`, `" "`, `[[[]],{"a":{"":null}}]`, `"\u2028\u0000"`} {
		require.NoError(t, hub.Notify(within(t), "values", nil, json.RawMessage(value)))
		_, ev := values.next(t)
		require.Equal(t, value, string(ev.Value))
	}
}

// Every key arrives, with all its digits and its sign.
func everyKey(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := watch(t, hub, "a")
	seen.expect(t, "subscribe a")
	lists := [][]int64{nil, {0}, {math.MinInt64, math.MaxInt64}, {-1, 1, -1}, make([]int64, 300)}
	for shift := range 64 {
		lists = append(lists, []int64{1 << shift, -1 << shift, 1<<shift - 1})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		list := make([]int64, 1+random.IntN(50))
		for i := range list {
			list[i] = int64(random.Uint64()) >> random.IntN(64)
		}
		lists = append(lists, list)
	}
	for i, list := range lists {
		var value any
		if i%2 == 1 {
			value = i
		}
		require.NoError(t, hub.Notify(within(t), "a", list, value))
		_, ev := seen.next(t)
		require.Equal(t, list, ev.Key)
		require.Equal(t, i%2 == 1, ev.Value != nil)
	}
}

// Every name of a topic is taken to the letter.
func everyTopic(t *testing.T, b Backend) {
	hub := startHub(t, b, nil)
	seen := newStream()
	c := consume(t, hub, seen.handle, nil)
	names := []string{
		"a", "A", "Foo", "foo", "user", "select", "*", " ", "  a  ", `"`, `""`, `'`, `''`, `a"b`, `;`, `a;LISTEN b`, "--", "/*", "$1", `\`, `\"`, "new\nline", "tab\t", "\x01",
		"é", "日本語", "🚀", "%s", "1", "1a", "a.b", "a-b", strings.Repeat("x", 63), strings.Repeat("é", 31) + "x", strings.Repeat("🚀", 15) + "abc",
	}
	for r := rune(1); r < 0x300; r++ {
		if name := fmt.Sprintf("t%c", r); r > 0x20 {
			names = append(names, name)
		}
	}
	require.NoError(t, c.Subscribe(within(t), names...))
	for range names {
		_, ev := seen.next(t)
		require.Equal(t, pghub.ActionSubscribe, ev.Advisory.Action)
		require.Contains(t, names, ev.Advisory.Topic)
	}
	for i, name := range names {
		if i%2 == 0 {
			b.Publish(Message{name, "e1"})
		} else {
			require.NoError(t, hub.Notify(within(t), name, []int64{1}, nil))
		}
		_, ev := seen.next(t)
		require.Equal(t, name, ev.Topic)
	}
	require.NoError(t, c.Unsubscribe(within(t), names...))
	require.NoError(t, c.Subscribe(within(t), "end"))
	for _, name := range names {
		b.Publish(Message{name, "e2"})
	}
	b.Publish(Message{"end", "e"})
	seen.expect(t, "subscribe end", "end e")
}
