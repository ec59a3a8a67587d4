package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// filter is which events of a topic a client wants.
type filter struct {
	Key   []json.Number              `json:"key,omitempty"`   // its first ones
	Where map[string]json.RawMessage `json:"where,omitempty"` // fields of the value, and what they equal
}

// isEmpty says that all events pass; a nil filter is empty.
func (f *filter) isEmpty() bool { return f == nil || len(f.Key)+len(f.Where) == 0 }

// normalize has texts that mean the same be the same.
func (f *filter) normalize() error {
	if f.isEmpty() {
		return nil
	}
	for i, k := range f.Key {
		n, err := strconv.ParseInt(string(k), 10, 64)
		if err != nil {
			return &badFilter
		}
		f.Key[i] = json.Number(strconv.FormatInt(n, 10))
	}
	for name, value := range f.Where {
		f.Where[name] = normal(value)
	}
	return nil
}

// normal is JSON without blanks, and strings in one spelling.
func normal(value json.RawMessage) json.RawMessage {
	var text string
	if json.Unmarshal(value, &text) == nil && value[0] == '"' {
		again, err := json.Marshal(text)
		if err == nil {
			return again
		}
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}

// announcesGap says whether an event is that by which a publisher announces a gap: see pghub.ErrMuted.
func announcesGap(key []json.Number, value []byte) bool {
	rest, marked := bytes.CutPrefix(value, []byte(`{"pghub":"gap"`))
	return marked && len(key) == 0 && len(rest) > 0 && (rest[0] == ',' || rest[0] == '}')
}

// matches says whether an event's message passes. One that could not be decoded does not; one that announces a gap always does.
func (f *filter) matches(message []byte) bool {
	var ev struct {
		Key         []json.Number
		Value       json.RawMessage
		Undecodable *string
	}
	if json.Unmarshal(message, &ev) != nil || ev.Undecodable != nil {
		return false
	}
	if announcesGap(ev.Key, ev.Value) {
		return true
	}
	if len(ev.Key) < len(f.Key) || !slices.Equal(ev.Key[:len(f.Key)], f.Key) {
		return false
	}
	if len(f.Where) == 0 {
		return true
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(ev.Value, &fields) != nil {
		return false
	}
	for name, want := range f.Where {
		if has, there := fields[name]; !there || !bytes.Equal(normal(has), want) {
			return false
		}
	}
	return true
}

// filterOf reads ?key=1,2 and ?where={"status":"sold"}; nil: none.
func filterOf(r *http.Request) (*filter, error) {
	query := r.URL.Query()
	f := &filter{}
	for _, list := range query["key"] {
		for k := range strings.SplitSeq(list, ",") {
			f.Key = append(f.Key, json.Number(k))
		}
	}
	if text := query.Get("where"); text != "" && json.Unmarshal([]byte(text), &f.Where) != nil {
		return nil, &badFilter
	}
	return f, f.normalize()
}

// filterTopics sets what the client wants of topics. Before they are subscribed to.
func (c *client) filterTopics(topics []string, f *filter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range topics {
		switch {
		case f.isEmpty():
			delete(c.filters, t)
		case c.filters == nil:
			c.filters = map[string]*filter{t: f}
		default:
			c.filters[t] = f
		}
	}
}

// wantsLocked says whether an event passes the client's filter of its topic.
func (c *client) wantsLocked(it item) bool {
	f := c.filters[it.topic]
	return f == nil || f.matches(it.data)
}
