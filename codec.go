package pghub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Codec turns keys and values into payloads and back.
//
// Both methods are called from several goroutines at once. Decode runs on the goroutine that reads the connection: it
// must be quick and must not call the hub. A Decode that panics is taken as one that
// returned an error, and a panic of Append goes through to the caller of Notify.
type Codec interface {
	// Append appends the payload of an event to dst. Its errors wrap ErrValue.
	Append(dst []byte, key []int64, value any) ([]byte, error)
	// Decode fills ev.Key and ev.Value from ev.Payload, which they may alias. ev.Key comes empty, with some capacity
	// that may be used.
	Decode(ev *Event) error
}

// KeyValueCodec is the wire format that pg-hub clients of all languages share: the letter e, the keys in decimal joined
// by commas, and, if there is a value, a colon and its JSON: `e`, `e1,2,3`, `e5:{"a":1}`, `e:"text"`.
//
// Decode also takes `:null` and a colon with nothing behind it as no value, and trims blanks around the value.
type KeyValueCodec struct {
	// Strict refuses values that are not valid JSON when they arrive. Otherwise they are refused by [Event.Decode]:
	// checking every value costs more than all the rest of receiving.
	Strict bool
}

// Append encodes any keys and any value that [json.Marshal] takes, without escaping <, > and &. Strings must be valid
// UTF-8: they are refused, never altered.
func (KeyValueCodec) Append(dst []byte, key []int64, value any) ([]byte, error) {
	dst = append(dst, 'e')
	for i, k := range key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, k, 10)
	}
	if value == nil {
		return dst, nil
	}
	n := len(dst)
	dst, err := appendJSON(append(dst, ':'), value)
	if err != nil {
		return nil, err
	}
	if string(dst[n:]) == ":null" {
		// A nil pointer or map means no value too, and only one spelling of it leaves pad its own.
		dst = dst[:n]
	}
	return dst, nil
}

// Decode refuses, by name, whatever is not of the form above.
func (c KeyValueCodec) Decode(ev *Event) error {
	p := ev.Payload
	if len(p) == 0 || p[0] != 'e' {
		return errNoE
	}
	keys, rest, err := parseKeys(ev.Key[:0], p[1:])
	if err != nil {
		return err
	}
	ev.Key, ev.Value = keys, jsonValue(rest)
	if c.Strict && ev.Value != nil && !json.Valid(ev.Value) {
		return errInvalidJSON
	}
	return nil
}

// JSONCodec takes the whole payload as the value: what ordinary triggers send. It has no place for keys.
type JSONCodec struct {
	Strict bool // as of KeyValueCodec
}

// Append encodes value as [KeyValueCodec] does; keys are refused with ErrValue.
func (JSONCodec) Append(dst []byte, key []int64, value any) ([]byte, error) {
	if len(key) > 0 {
		return nil, fmt.Errorf("%w: JSONCodec has no place for a key", ErrValue)
	}
	return appendJSON(dst, value)
}

// Decode takes an empty payload, and null, as no value.
func (c JSONCodec) Decode(ev *Event) error {
	ev.Key, ev.Value = nil, jsonValue(ev.Payload)
	if c.Strict && ev.Value != nil && !json.Valid(ev.Value) {
		return errInvalidJSON
	}
	return nil
}

// RawCodec passes any payload through as it is: read [Event.Payload]; Key and Value stay nil.
type RawCodec struct{}

// Append takes a string, a []byte or nil (an empty payload), and no keys.
func (RawCodec) Append(dst []byte, key []int64, value any) ([]byte, error) {
	if len(key) > 0 {
		return nil, fmt.Errorf("%w: RawCodec has no place for a key", ErrValue)
	}
	switch v := value.(type) {
	case nil:
		return dst, nil
	case string:
		return append(dst, v...), nil
	case []byte:
		return append(dst, v...), nil
	}
	return nil, fmt.Errorf("%w: RawCodec takes a string or a []byte, not a %T", ErrValue, value)
}

// Decode accepts everything.
func (RawCodec) Decode(ev *Event) error {
	ev.Key, ev.Value = nil, nil
	return nil
}

var (
	errNoE         = errors.New("no leading e")
	errEmptyKey    = errors.New("a key without digits")
	errKeyOverflow = errors.New("a key beyond the range of int64")
	errAfterKey    = errors.New("a key is followed by neither comma nor colon")
	errInvalidJSON = errors.New("the value is not valid JSON")
)

// parseKeys reads the keys at the beginning of b, if any, and returns what follows the colon.
func parseKeys(keys []int64, b []byte) (_ []int64, value []byte, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	if b[0] == ':' {
		return nil, b[1:], nil
	}
	for {
		var key int64
		key, b, err = parseKey(b)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, key)
		switch {
		case len(b) == 0:
			return keys[:len(keys):len(keys)], nil, nil
		case b[0] == ':':
			return keys[:len(keys):len(keys)], b[1:], nil
		case b[0] != ',':
			return nil, nil, errAfterKey
		}
		b = b[1:]
	}
}

func parseKey(b []byte) (key int64, rest []byte, err error) {
	i := 0
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		i = 1
	}
	digits := i
	var n uint64
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if n > math.MaxInt64/10 {
			return 0, nil, errKeyOverflow
		}
		n = n*10 + uint64(b[i]-'0')
	}
	switch {
	case i == digits:
		return 0, nil, errEmptyKey
	case negative && n <= 1<<63:
		return -int64(n), b[i:], nil
	case !negative && n <= math.MaxInt64:
		return int64(n), b[i:], nil
	}
	return 0, nil, errKeyOverflow
}

// jsonValue trims the blanks that JSON allows around a value; nothing and null are no value.
func jsonValue(b []byte) json.RawMessage {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	return b[:len(b):len(b)]
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// padOf is how a codec's payloads are told apart without changing what they mean. PostgreSQL folds equal notifications of
// one transaction into one, so the n-th equal payload of a batch (n > 0) is sent padded. nil: they cannot be. It goes by
// the type itself, since a codec that embeds one of ours may have payloads of any form.
func padOf(c Codec) func(payload string, n int) string {
	switch c.(type) {
	case KeyValueCodec:
		return padKeyValue
	case JSONCodec:
		return padJSON
	}
	return nil
}

func padKeyValue(payload string, n int) string {
	if !strings.Contains(payload, ":") {
		return payload + ":null" + blanks(n-1)
	}
	return payload + blanks(n)
}

func padJSON(payload string, n int) string { return payload + blanks(n) }

// blanks spells n > 0 in the four blanks of JSON: five of them tell more than a thousand payloads apart.
func blanks(n int) string {
	var b []byte
	for ; n > 0; n = (n - 1) / 4 {
		b = append(b, " \t\n\r"[(n-1)%4])
	}
	return string(b)
}

const (
	maxTopic   = 63   // NAMEDATALEN - 1
	maxPayload = 7999 // NOTIFY_PAYLOAD_MAX_LENGTH - 1
)

func checkTopic(topic string) error {
	switch {
	case topic == "":
		return fmt.Errorf("pghub: %w: it is empty, the limits are 1 and %d bytes", ErrTopic, maxTopic)
	case len(topic) > maxTopic:
		return fmt.Errorf("pghub: %w: %q is %d bytes long, the limit is %d", ErrTopic, topic, len(topic), maxTopic)
	case !utf8.ValidString(topic):
		return fmt.Errorf("pghub: %w: %q is not UTF-8", ErrTopic, topic)
	case strings.IndexByte(topic, 0) >= 0:
		return fmt.Errorf("pghub: %w: %q contains NUL", ErrTopic, topic)
	}
	return nil
}

// checkPayload refuses what the server would refuse: one such event would fail the whole batch that it rides in.
func checkPayload(topic string, payload []byte) error {
	switch {
	case len(payload) > maxPayload:
		return fmt.Errorf("pghub: notify %q: %w: %d bytes, the limit is %d", topic, ErrPayloadTooLarge, len(payload), maxPayload)
	case bytes.IndexByte(payload, 0) >= 0:
		return fmt.Errorf("pghub: notify %q: %w: the payload contains NUL", topic, ErrValue)
	case !utf8.Valid(payload):
		return fmt.Errorf("pghub: notify %q: %w: the payload is not UTF-8", topic, ErrValue)
	}
	return nil
}
