package pghub

import (
	"encoding/json"
	"time"
)

// gapMark begins the payload by which a publisher announces a gap in a topic: pghub.unmute does. To others it is an event
// like any other. A comma or a brace follows.
const gapMark = `e:{"pghub":"gap"`

// announcesGap reports whether a payload announces a gap.
func announcesGap(payload []byte) bool {
	const n = len(gapMark)
	return len(payload) > n && string(payload[:n]) == gapMark && (payload[n] == ',' || payload[n] == '}')
}

// announcedGap is the gap of a payload that announces one. What it does not say of its times is zero.
func announcedGap(payload []byte) Gap {
	var times struct{ Since, Until time.Time }
	_ = json.Unmarshal(payload[len("e:"):], &times) // the gap is one whatever else is in the payload
	return Gap{Since: times.Since, Until: times.Until, Err: ErrMuted}
}
