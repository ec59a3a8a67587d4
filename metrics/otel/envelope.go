package pghubotel

import (
	"bytes"
	"encoding/json"

	"github.com/pghub/pghub"
)

// originHeader is the header of an event with the origin of who has published it.
const originHeader = "pghub-origin"

// mark begins the value of an event that is an envelope.
const mark = `{"pghub":"envelope",`

// envelope is a value with headers. Its fields stand in this order on the wire.
type envelope struct {
	Kind    string            `json:"pghub"`
	Headers map[string]string `json:"headers"`
	Value   any               `json:"value,omitempty"`
}

// received is an envelope as it comes.
type received struct {
	Headers map[string]string `json:"headers"`
	Value   json.RawMessage   `json:"value"`
}

// Codec is a codec for events of which some may have an envelope; see the package comment. Those that have none are as the other
// codec gives them. It adds no envelope by itself: that is done by [Tracing.Value], which knows the context.
type Codec struct {
	// Codec is the one within: KeyValueCodec, JSONCodec, or one whose values are JSON. nil: KeyValueCodec{}.
	Codec pghub.Codec
}

var _ pghub.Codec = Codec{}

func (c Codec) inner() pghub.Codec {
	if c.Codec == nil {
		return pghub.KeyValueCodec{}
	}
	return c.Codec
}

// Append is that of the codec within.
func (c Codec) Append(dst []byte, key []int64, value any) ([]byte, error) {
	return c.inner().Append(dst, key, value)
}

// Decode takes the value out of the envelope, if there is one. An envelope that is broken is an error.
func (c Codec) Decode(ev *pghub.Event) error {
	if err := c.inner().Decode(ev); err != nil {
		return err
	}
	if !bytes.HasPrefix(ev.Value, []byte(mark)) {
		return nil
	}
	var in received
	if err := json.Unmarshal(ev.Value, &in); err != nil {
		return err
	}
	if ev.Value = in.Value; string(ev.Value) == "null" {
		ev.Value = nil
	}
	return nil
}

// headersOf are the headers of an event: those of the stream, or of its envelope, which is read from the payload. nil: none.
func headersOf(ev *pghub.Event) map[string]string {
	if ev.Record != nil {
		return ev.Record.Headers
	}
	value := ev.Payload
	if len(value) > 0 && value[0] == 'e' { // keys have no colon
		_, value, _ = bytes.Cut(value, []byte(":"))
	}
	var in received
	if !bytes.HasPrefix(value, []byte(mark)) || json.Unmarshal(value, &in) != nil {
		return nil
	}
	return in.Headers
}
