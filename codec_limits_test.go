package pghub

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

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
	{"NUL in front", "\x00a", false},
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
	{"NUL in front", "\x00a", ErrValue},
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
