package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
)

const (
	maxTopic   = 63
	maxPayload = 7999
)

func checkTopic(topic string) error {
	if len(topic) == 0 || len(topic) > maxTopic || strings.ContainsRune(topic, 0) || !utf8.ValidString(topic) {
		return fmt.Errorf("%w: %.70q; 1 to %d bytes of UTF-8 without NUL", pghub.ErrTopic, topic, maxTopic)
	}
	return nil
}

// payload is that of a notification.
func (s *Sink) payload(m *bridge.Message) (string, error) {
	var text string
	if s.cfg.Raw {
		text = string(m.Body)
		if !utf8.Valid(m.Body) || bytes.IndexByte(m.Body, 0) >= 0 {
			return "", fmt.Errorf("%w: the body is not UTF-8 without NUL", pghub.ErrValue)
		}
	} else {
		var value any
		if len(m.Body) > 0 {
			value = json.RawMessage(m.Body)
		}
		b, err := pghub.KeyValueCodec{}.Append(nil, m.Key, value)
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	if len(text) > maxPayload {
		return "", fmt.Errorf("%w: %d bytes, the limit is %d", pghub.ErrPayloadTooLarge, len(text), maxPayload)
	}
	return text, nil
}

// distinct makes a payload differ from all that were sent in this transaction, by blanks that decoders trim. false: it cannot be made to.
func (s *Sink) distinct(r *row, sent map[[2]string]bool) bool {
	if sent[[2]string{r.topic, r.payload}] {
		if s.cfg.Raw {
			return false
		}
		if !strings.Contains(r.payload, ":") {
			r.payload += ":null"
		}
		for sent[[2]string{r.topic, r.payload}] {
			r.payload += " "
		}
		if len(r.payload) > maxPayload {
			return false
		}
	}
	sent[[2]string{r.topic, r.payload}] = true
	return true
}

func valueOf(m *bridge.Message) *string {
	if len(m.Body) == 0 {
		return nil
	}
	text := string(m.Body)
	return &text
}

// headersOf is the headers, and the attributes of a CloudEvent, as JSON.
func headersOf(m *bridge.Message) *string {
	if len(m.Headers)+len(m.Attributes) == 0 {
		return nil
	}
	all := make(map[string]string, len(m.Headers)+len(m.Attributes))
	for name, text := range m.Headers {
		all[name] = text
	}
	for name, text := range m.Attributes {
		all["ce-"+name] = text
	}
	b, err := json.Marshal(all)
	if err != nil { // cannot be: names and texts
		return nil
	}
	text := string(b)
	return &text
}

// keyText is a key as PostgreSQL writes an array. nil: none.
func keyText(key []int64) *string {
	if len(key) == 0 {
		return nil
	}
	b := []byte{'{'}
	for i, k := range key {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, k, 10)
	}
	text := string(append(b, '}'))
	return &text
}

// queue adds the statement that publishes rows, in their order.
func (s *Sink) queue(work *pgx.Batch, rows []row) {
	topics := make([]string, len(rows))
	for i, r := range rows {
		topics[i] = r.topic
	}
	if !s.cfg.Stream {
		payloads := make([]string, len(rows))
		for i, r := range rows {
			payloads[i] = r.payload
		}
		work.Queue(`SELECT count(pg_notify(t, p)) FROM unnest($1::text[], $2::text[]) AS n(t, p)`, topics, payloads)
		return
	}
	keys, values, headers := make([]*string, len(rows)), make([]*string, len(rows)), make([]*string, len(rows))
	for i, r := range rows {
		keys[i], values[i], headers[i] = keyText(r.key), r.value, r.headers
	}
	work.Queue(`SELECT pghub.capture_all($1, $2, $3, $4)`, topics, keys, values, headers)
}
